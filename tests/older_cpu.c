/* Makes a program believe that the CPU has fewer vector instructions than it has.
 *
 *   cc -O1 -shared -fPIC -o older_cpu.so tests/older_cpu.c
 *   OLDER_CPU=AVX2 LD_PRELOAD=$PWD/older_cpu.so pytest -p no:faulthandler tests/layers
 *
 * `XLA_FLAGS=--xla_cpu_max_isa=AVX2` bounds what LLVM emits, but not the kernels of matrix products
 * and convolutions in the libraries inside jaxlib: these ask the CPU itself (instruction CPUID) what
 * it has. Where /proc/cpuinfo lists the flag cpuid_fault, Linux can have this instruction raise a
 * signal; the handler here executes it and clears the bits of what the CPU is to lack.
 *
 * OLDER_CPU is AVX2 (without AVX-512, AMX and AVX-VNNI) or AVX (without AVX2, FMA and F16C either).
 * What the dynamic loader chose before, such as how memory is copied, stays. Python's faulthandler
 * would take the signal, hence `-p no:faulthandler`.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_SET_CPUID = 0x1012 };
enum { AVX2 = 1, AVX };
static int level;

static void answer(unsigned leaf, unsigned subleaf, unsigned *r) {
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
    __asm__ volatile("cpuid"
                     : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                     : "a"(leaf), "c"(subleaf));
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
    if (leaf == 1 && level == AVX)
        r[2] &= ~(1u << 12 | 1u << 29); /* FMA, F16C */
    if (leaf == 7 && subleaf == 0) {
        /* AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ;
           4VNNIW, 4FMAPS, VP2INTERSECT, FP16; AMX BF16, TILE, INT8 */
        r[1] &= ~(1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31);
        r[2] &= ~(1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14);
        r[3] &= ~(1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25);
        if (level == AVX)
            r[1] &= ~(1u << 5); /* AVX2 */
    } else if (leaf == 7) {
        r[0] = r[1] = r[2] = r[3] = 0; /* AVX-VNNI, AVX-512 BF16, AMX FP16 and later ones */
    }
}

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)regs[REG_RIP];
    if (code[0] != 0x0f || code[1] != 0xa2) { /* not CPUID: the fault happens again, unhandled */
        signal(number, SIG_DFL);
        return;
    }
    unsigned r[4];
    answer((unsigned)regs[REG_RAX], (unsigned)regs[REG_RCX], r);
    regs[REG_RAX] = r[0];
    regs[REG_RBX] = r[1];
    regs[REG_RCX] = r[2];
    regs[REG_RDX] = r[3];
    regs[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("OLDER_CPU");
    if (!name)
        return;
    level = !strcmp(name, "AVX2") ? AVX2 : !strcmp(name, "AVX") ? AVX : 0;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    if (!level || sigaction(SIGSEGV, &action, NULL) || syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) {
        fprintf(stderr, "OLDER_CPU=%s must be AVX2 or AVX, on a CPU with cpuid_fault\n", name);
        _exit(2);
    }
}
