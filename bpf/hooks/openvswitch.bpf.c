/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches to which port Open vSwitch is about to send a packet: it frees what is
 * too long for that one without a word. ovs_vport_send() 3.3 on, in a module.
 * Hot: once for each packet that it sends; one load and two stores. */

static __always_inline void note_vport(__u64 skb, __u64 vport)
{
	struct here *cpu = here();

	if (!cpu)
		return;
	cpu->sending.skb = skb;
	/* struct vport begins with its device. */
	load_kernel(&cpu->sending.dev, 8, (const void *)vport);
}

/* The device of the port that this packet was being sent to, or none. */
static __always_inline struct net_device *port_of(struct sk_buff *skb)
{
	struct here *cpu = here();

	return cpu && cpu->sending.skb == (__u64)skb ? cpu->sending.dev : 0;
}

int vport_send_kprobe(struct pt_regs *ctx)
{
	note_vport(PT_REGS_PARM2(ctx), PT_REGS_PARM1(ctx));
	return 0;
}

int vport_send_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	note_vport(ctx->args[1], ctx->args[0]);
	return 0;
}
