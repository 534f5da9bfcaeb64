// Work shared with XLA's threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <type_traits>

#include "xla/ffi/api/ffi.h"

namespace rcnn {

// Memory of one thread that lives as long as the thread, so that no call clears new pages.
class Scratch {
 public:
  // Returns room for `floats` numbers at the start of a cache line, or null without memory.
  static float* of_this_thread(int64_t floats) {
    thread_local Scratch mine;
#if defined(RCNN_EXACT_SCRATCH)  // so that a sanitizer sees what lies beyond
    const bool fits = floats == mine.floats_;
#else
    const bool fits = floats <= mine.floats_;
#endif
    if (!fits) {
      std::free(mine.data_);
      void* memory = nullptr;
      const size_t bytes = static_cast<size_t>(floats) * sizeof(float);
      mine.data_ = posix_memalign(&memory, 64, bytes) == 0 ? static_cast<float*>(memory) : nullptr;
      mine.floats_ = mine.data_ == nullptr ? 0 : floats;
    }
    return mine.data_;
  }
  ~Scratch() { std::free(data_); }

 private:
  float* data_ = nullptr;
  int64_t floats_ = 0;
};

// Calls `work(n)` for n = 0..count-1 on the threads of XLA and on this one, and returns when all
// calls have. Pieces are handed out one after the other, so that a thread that is held up by others
// takes fewer; this thread finishes alone if no other is free.
//
// Returns false if a call did.
template <typename Work>
bool for_each(xla::ffi::ThreadPool& pool, int64_t count, Work&& work) {
  struct Job {
    std::atomic<int64_t> next{0}, finished{0};
    std::atomic<bool> good{true};
    int64_t count = 0;
    std::remove_reference_t<Work>* work = nullptr;
    std::mutex lock;
    std::condition_variable all_finished;

    // A thread that comes when all pieces are taken does not touch `work`, which may be gone.
    void take() {
      for (int64_t n; (n = next.fetch_add(1)) < count;) {
        if (!(*work)(n)) good.store(false);
        if (finished.fetch_add(1) + 1 == count) {
          std::lock_guard<std::mutex> held(lock);
          all_finished.notify_all();
        }
      }
    }
  };
  const int64_t threads = count < pool.num_threads() ? count : pool.num_threads();
  if (threads <= 1) {
    bool good = true;
    for (int64_t n = 0; n < count; ++n) good = work(n) && good;
    return good;
  }
  auto job = std::make_shared<Job>();
  job->count = count;
  job->work = &work;
  for (int64_t helper = 1; helper < threads; ++helper) pool.Schedule([job] { job->take(); });
  job->take();
  // The last pieces of the others are about as long as the last of this thread.
  for (int spin = 0; spin < 2000 && job->finished.load() < count; ++spin) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  std::unique_lock<std::mutex> held(job->lock);
  job->all_finished.wait(held, [&] { return job->finished.load() == count; });
  return job->good.load();
}

}  // namespace rcnn
