/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What these programs take of what BCC's own headers declare, a hundredth. The
 * compiler is told that it has read those already (see compiler.py): they are
 * seven thousand lines, which it would read three times, in a seventh of all
 * the time that it takes. Most names are those that BCC's rewriter uses; the
 * numbers are those of linux/bpf.h.
 */
#ifndef PMTUTRACE_HELPERS_H
#define PMTUTRACE_HELPERS_H

/* Asked for at the end of every text, for the licence. */
#define BCC_SEC(name) __attribute__((section(name), used))

__u64 bpf_pseudo_fd(__u64 kind, __u64 number) asm("llvm.bpf.pseudo");

#define BPF_ANY 0
#define BPF_NOEXIST 1
#define BPF_RB_NO_WAKEUP 1

#define HELPER(number, returns, name, ...)                                    \
	static returns (*name)(__VA_ARGS__) = (void *)number
HELPER(1, void *, bpf_map_lookup_elem, void *map, void *key);
HELPER(2, int, bpf_map_update_elem, void *map, void *key, void *leaf,
       __u64 flags);
HELPER(3, int, bpf_map_delete_elem, void *map, void *key);
HELPER(8, __u64, bpf_get_smp_processor_id, void);
HELPER(14, __u64, bpf_get_current_pid_tgid, void);
HELPER(67, int, bpf_get_stack, void *ctx, void *to, __u32 size,
       __u64 flags);
HELPER(113, int, bpf_probe_read_kernel, void *to, __u32 size,
       const void *from);
HELPER(118, __u64, bpf_jiffies64, void);
HELPER(125, __u64, bpf_ktime_get_boot_ns, void);
HELPER(131, void *, bpf_ringbuf_reserve, void *map, __u64 size, __u64 flags);
HELPER(132, void, bpf_ringbuf_submit, void *data, __u64 flags);

/* What programs on tracepoints are called with, and those on functions: the
 * registers of the System V ABI for x86-64. */
struct bpf_raw_tracepoint_args {
	__u64 args[0];
};
#define PT_REGS_PARM1(ctx) ((ctx)->di)
#define PT_REGS_PARM2(ctx) ((ctx)->si)
#define PT_REGS_PARM3(ctx) ((ctx)->dx)
#define PT_REGS_PARM4(ctx) ((ctx)->cx)
#define PT_REGS_PARM5(ctx) ((ctx)->r8)
#define PT_REGS_PARM6(ctx) ((ctx)->r9)
#define PT_REGS_RC(ctx) ((ctx)->ax)
#define PT_REGS_SP(ctx) ((ctx)->sp)

#endif
