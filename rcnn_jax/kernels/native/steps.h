// Steps of a loop, each shared among threads.
#pragma once

#include <sched.h>

#include <atomic>
#include <memory>

#include "threads.h"

namespace rcnn {

// Calls `work(step, piece)` for all pieces 0..pieces-1 of step 0, then of step 1, and so on, on the
// threads of XLA and on this one; no piece starts before all of the last step have ended.
//
// Each thread prefers the pieces of its own share, whose part of a kernel is in its cache, and
// then takes from the ends of the others' shares. A thread that does not come, or late, only leaves
// more to the others: this one finishes alone if none is free. Returns false if a call did.
template <typename Work>
bool for_steps(xla::ffi::ThreadPool& pool, int64_t steps, int64_t pieces, Work&& work) {
  struct Job {
    int64_t steps = 0, pieces = 0, threads = 0;
    std::remove_reference_t<Work>* work = nullptr;
    std::unique_ptr<std::atomic<int64_t>[]> next;  // step of each piece that is still to be taken
    std::atomic<int64_t> finished{0};              // pieces of all steps
    std::atomic<bool> good{true};

    void wait_for(int64_t count) {
      for (int spin = 0; finished.load() < count; ++spin) {
        if (spin < 4000) {
#if defined(__x86_64__)
          __builtin_ia32_pause();
#endif
        } else {
          sched_yield();  // the other thread may need this core
        }
      }
    }

    // Nothing is touched of `work`, which may be gone, without a piece that nobody else has taken.
    void take(int64_t who) {
      const int64_t begin = pieces * who / threads, end = pieces * (who + 1) / threads;
      for (int64_t step = 0; step < steps; ++step) {
        wait_for(step * pieces);
        if (finished.load() >= (step + 1) * pieces) {
          step = finished.load() / pieces - 1;  // others are ahead
          continue;
        }
        for (int64_t n = 0; n < pieces; ++n) {
          const int64_t own = end - begin;
          // To and fro: the last pieces of a step are still in the cache when the next one begins.
          const int64_t place = step % 2 ? own - 1 - n : n;
          const int64_t piece = n < own ? begin + place : (begin - 1 - (n - own) + pieces) % pieces;
          int64_t expected = step;
          if (next[piece].load() != step || !next[piece].compare_exchange_strong(expected, step + 1))
            continue;
          if (!(*work)(step, piece)) good.store(false);
          finished.fetch_add(1);
        }
      }
    }
  };
  const int64_t threads = pieces < pool.num_threads() ? pieces : pool.num_threads();
  if (threads <= 1) {
    bool good = true;
    for (int64_t step = 0; step < steps; ++step) {
      for (int64_t piece = 0; piece < pieces; ++piece) good = work(step, piece) && good;
    }
    return good;
  }
  auto job = std::make_shared<Job>();
  job->steps = steps;
  job->pieces = pieces;
  job->threads = threads;
  job->work = &work;
  job->next.reset(new std::atomic<int64_t>[pieces]);
  for (int64_t piece = 0; piece < pieces; ++piece) job->next[piece].store(0);
  for (int64_t who = 1; who < threads; ++who) pool.Schedule([job, who] { job->take(who); });
  job->take(0);
  job->wait_for(steps * pieces);
  return job->good.load();
}

}  // namespace rcnn
