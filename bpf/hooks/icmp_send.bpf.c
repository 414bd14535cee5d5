/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches frag-needed and packet-too-big while the kernel tries to send them.
 * icmp:icmp_send from 6.10 (and stable 6.1); __icmp_send, icmp6_send 4.x on.
 * Cold: runs once for each ICMP error that the kernel sends. */

/* Told apart by task, by CPU where there is none: what interrupts a context
 * has the same key, but ends before that context goes on. */
static __always_inline __u64 context_key(void)
{
	__u64 id = bpf_get_current_pid_tgid();

	return (__u32)id ? id : 1ULL << 63 | bpf_get_smp_processor_id();
}

static __always_inline bool is_too_big(int family, int type, int code)
{
	return family == 4 ? type == ICMP_DEST_UNREACH &&
				     code == ICMP_FRAG_NEEDED :
			     type == ICMPV6_PKT_TOOBIG;
}

/* The entry of a packet, made if it is not there. */
static __always_inline struct news *news_about(__u64 skb)
{
	struct news fresh = {}, *news = news_of.lookup(&skb);
	struct packet p;

	if (!is_recording())
		return 0;
	if (!news) {
		news_of.update(&skb, &fresh);
		news = news_of.lookup(&skb);
		if (!news) {
			lose(LOSS_NEWS_FULL);
			return 0;
		}
	}
	p = packet_of((struct sk_buff *)skb);
	news->fingerprint = fingerprint(&p);
	return news;
}

static __always_inline void begin_news(struct news *news, __u32 mtu)
{
	news->mtu = mtu;
	news->message = 0;
	news->cause = CAUSE_NONE;
	news->nested = 0;
}

/* The kernel has begun to send: without more, the news was suppressed. */
static __always_inline void begin(__u64 skb, __u32 mtu, bool ipv6)
{
	__u64 context = context_key(), *outside = telling.lookup(&context);
	struct news *news = news_about(skb), *other;

	if (news) {
		begin_news(news, mtu);
		news->verdict = VERDICT_SUPPRESSED;
		news->ipv6 = ipv6;
		news->outside = outside ? *outside : 0;
		other = news->outside ? news_of.lookup(&news->outside) : 0;
		news->nested = other && other->ipv6 == ipv6;
	}
	telling.update(&context, &skb);
}

static __always_inline void end(void)
{
	__u64 context = context_key(), *skb = telling.lookup(&context);
	struct news *news;

	if (!skb)
		return;
	news = news_of.lookup(skb);
	if (news && news->outside)
		*skb = news->outside;
	else
		telling.delete(&context);
}

/* All tests passed: it is handed to the IP output path. The CPU stays the same
 * until that path ends, because bottom halves are off (icmp_xmit_lock). */
static __always_inline void hand_over(__u64 skb, bool ipv6)
{
	struct news *news = news_about(skb);
	struct here *cpu = here();

	if (!cpu || !news)
		return;
	if (cpu->emitting != skb)
		news->under = cpu->emitting;
	cpu->emitting = skb;
	/* Without an attempt seen before, what is there is about another packet. */
	if (news->verdict != VERDICT_SUPPRESSED)
		begin_news(news, 0);
	news->verdict = VERDICT_TOLD;
	news->ipv6 = ipv6;
}

/* icmp_push_reply() sends echo replies too: only a struct icmp_bxm that begins
 * with the packet that is being told about is ours. It is the second argument
 * in 6.1, the first in 5.10. */
static __always_inline void hand_over_reply(__u64 first, __u64 second)
{
	__u64 context = context_key(), *skb = telling.lookup(&context);
	__u64 of_first = 0, of_second = 0;

	if (!skb)
		return;
	bpf_probe_read_kernel(&of_first, sizeof(of_first), (void *)first);
	bpf_probe_read_kernel(&of_second, sizeof(of_second), (void *)second);
	if (of_first == *skb || of_second == *skb)
		hand_over(*skb, false);
}

/* icmpv6_push_pending_frames(sk, fl6, icmp6hdr, length) */
static __always_inline void hand_over_pending(__u64 header)
{
	__u64 context = context_key(), *skb = telling.lookup(&context);
	__u8 type = 0;

	bpf_probe_read_kernel(&type, sizeof(type), (void *)header);
	if (skb && type == ICMPV6_PKT_TOOBIG)
		hand_over(*skb, true);
}

#ifdef HAVE_TP_icmp_send
int icmp_send(struct bpf_raw_tracepoint_args *ctx)
{
	if (is_too_big(4, (int)ctx->args[TP_icmp_send__type],
		       (int)ctx->args[TP_icmp_send__code]))
		hand_over(ctx->args[TP_icmp_send__skb], false);
	return 0;
}
#endif

/* The MTU is big-endian for IPv4, in host order for IPv6. */
int icmp_send_enter_kprobe(struct pt_regs *ctx)
{
	if (is_too_big(4, (int)PT_REGS_PARM2(ctx), (int)PT_REGS_PARM3(ctx)))
		begin(PT_REGS_PARM1(ctx), be32(PT_REGS_PARM4(ctx)), false);
	return 0;
}

int icmp_send_exit_kprobe(struct pt_regs *ctx)
{
	end();
	return 0;
}

int icmp_push_reply_kprobe(struct pt_regs *ctx)
{
	hand_over_reply(PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx));
	return 0;
}

int icmp6_send_enter_kprobe(struct pt_regs *ctx)
{
	if (is_too_big(6, (__u8)PT_REGS_PARM2(ctx), (__u8)PT_REGS_PARM3(ctx)))
		begin(PT_REGS_PARM1(ctx), PT_REGS_PARM4(ctx), true);
	return 0;
}

int icmp6_send_exit_kprobe(struct pt_regs *ctx)
{
	end();
	return 0;
}

int icmp6_push_pending_kprobe(struct pt_regs *ctx)
{
	hand_over_pending(PT_REGS_PARM3(ctx));
	return 0;
}

int icmp_send_enter_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	if (is_too_big(4, (int)ctx->args[1], (int)ctx->args[2]))
		begin(ctx->args[0], be32(ctx->args[3]), false);
	return 0;
}

/* Of both families: fexit programs are attached one by one. */
int icmp_send_exit_fexit(struct bpf_raw_tracepoint_args *ctx)
{
	end();
	return 0;
}

int icmp6_send_enter_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	if (is_too_big(6, (__u8)ctx->args[1], (__u8)ctx->args[2]))
		begin(ctx->args[0], ctx->args[3], true);
	return 0;
}

int icmp6_push_pending_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	hand_over_pending(ctx->args[2]);
	return 0;
}
