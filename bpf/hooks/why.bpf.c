/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches what makes the kernel give up a message that it has begun to make: a
 * limit, the packet's options, no room in the ICMP socket's send buffer.
 * fexit or kretprobe of functions that are there from 4.x on. Cold: runs for
 * ICMP errors, and ip_append_data() for raw and corked sockets too. */

static __always_inline void given_up(bool failed, __u8 cause)
{
	__u64 context = context_key(), *skb;
	struct news *news;

	if (!failed)
		return;
	skb = telling.lookup(&context);
	news = skb ? news_of.lookup(skb) : 0;
	if (!news)
		return;
	news->verdict = VERDICT_SUPPRESSED;
	news->cause = cause;
}

int global_limit_kretprobe(struct pt_regs *ctx)
{
	given_up(!(__u8)PT_REGS_RC(ctx), CAUSE_RATE_LIMITED_GLOBAL);
	return 0;
}

int host_limit_kretprobe(struct pt_regs *ctx)
{
	given_up(!(__u8)PT_REGS_RC(ctx), CAUSE_RATE_LIMITED_HOST);
	return 0;
}

int options_echo_kretprobe(struct pt_regs *ctx)
{
	given_up((int)PT_REGS_RC(ctx) < 0, CAUSE_OPTIONS_INVALID);
	return 0;
}

int append_kretprobe(struct pt_regs *ctx)
{
	given_up((int)PT_REGS_RC(ctx) < 0, CAUSE_APPEND_FAILED);
	return 0;
}

/* What a function returns comes behind its arguments. */
#ifdef RETURN_icmp_global_allow
int global_limit_fexit(struct bpf_raw_tracepoint_args *ctx)
{
	given_up(!(__u8)ctx->args[RETURN_icmp_global_allow],
		 CAUSE_RATE_LIMITED_GLOBAL);
	return 0;
}
#endif

#ifdef RETURN_inet_peer_xrlim_allow
int host_limit_fexit(struct bpf_raw_tracepoint_args *ctx)
{
	given_up(!(__u8)ctx->args[RETURN_inet_peer_xrlim_allow],
		 CAUSE_RATE_LIMITED_HOST);
	return 0;
}
#endif

#ifdef RETURN___ip_options_echo
int options_echo_fexit(struct bpf_raw_tracepoint_args *ctx)
{
	given_up((int)ctx->args[RETURN___ip_options_echo] < 0,
		 CAUSE_OPTIONS_INVALID);
	return 0;
}
#endif

#ifdef RETURN_ip_append_data
int append_fexit(struct bpf_raw_tracepoint_args *ctx)
{
	given_up((int)ctx->args[RETURN_ip_append_data] < 0,
		 CAUSE_APPEND_FAILED);
	return 0;
}
#endif

#ifdef RETURN_ip6_append_data
int append6_fexit(struct bpf_raw_tracepoint_args *ctx)
{
	given_up((int)ctx->args[RETURN_ip6_append_data] < 0,
		 CAUSE_APPEND_FAILED);
	return 0;
}
#endif
