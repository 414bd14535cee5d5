/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches the outer packets of this host's tunnels that leave as fragments.
 * ip_do_fragment(), ip6_fragment() (4.4 on): cold. Else skb:consume_skb with a
 * location (6.3, dd1b527831a3): hot, once for each packet that comes to a good
 * end, which leaves after two comparisons. */

/* Count a packet that has a tunnel's outer header: r->key is zero but for the
 * flow. Called, as what is in called.bpf.c. */
int fragmented(struct refusal *r)
{
	r->key.netns = netns_inum(r->out);
	if (!is_watched(r->key.netns))
		return 0;
	r->key.ifindex = READ(r->out, ifindex);
	r->mtu = r->ipv6 ? mtu_ipv6(r->dst, r->out, false) :
			   mtu_ipv4(r->dst, r->out, false);
	r->skb = 0;
	r->location = 0;
	r->reason = 0;
	r->flags = 0;
	r->mark = 0;
	call_report(r);
	return 0;
}

static __always_inline void fragmenting(struct sk_buff *skb, bool ipv6)
{
	struct here *cpu = here();
	struct refusal *r = enter(cpu);

	if (!r)
		return;
	r->packet = packet_of(skb);
	r->start = fingerprint(&r->packet);
	r->length = READ(skb, len);
	r->dst = (struct dst_entry *)(READ(skb, _skb_refdst) & ~1UL);
	r->out = r->dst ? READ(r->dst, dev) : 0;
	r->ipv6 = ipv6;
	__builtin_memset(&r->key, 0, sizeof(r->key));
	if (r->out && !call_parse(r) && r->key.outer_family)
		call_fragmented(r);
	leave(cpu);
}

/* Whoever calls ip_do_fragment() has looked at DF. */
static __always_inline bool splits4(struct sk_buff *skb)
{
	struct inet_skb_parm *cb = (struct inet_skb_parm *)&skb->cb;

	return !(READ(cb, flags) & IPSKB_FORWARDED);
}

/* ip6_fragment() itself refuses what it may not split. */
static __always_inline bool splits6(struct sk_buff *skb)
{
	struct inet6_skb_parm *cb = (struct inet6_skb_parm *)&skb->cb;
	struct dst_entry *dst =
		(struct dst_entry *)(READ(skb, _skb_refdst) & ~1UL);

	if (READ(cb, flags) & IP6SKB_FORWARDED || !dst)
		return false;
	return READ_BITS(skb, sk_buff, ignore_df) ||
	       READ(skb, len) <= mtu_ipv6(dst, READ(dst, dev), false);
}

/* Both are (net, sk, skb, output). */
int fragment4_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx->args[2];

	if (splits4(skb))
		fragmenting(skb, false);
	return 0;
}

int fragment6_fentry(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx->args[2];

	if (splits6(skb))
		fragmenting(skb, true);
	return 0;
}

int fragment4_kprobe(struct pt_regs *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)PT_REGS_PARM3(ctx);

	if (splits4(skb))
		fragmenting(skb, false);
	return 0;
}

int fragment6_kprobe(struct pt_regs *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)PT_REGS_PARM3(ctx);

	if (splits6(skb))
		fragmenting(skb, true);
	return 0;
}

#ifdef TP_consume_skb__location
/* Once all fragments are on their way the whole packet is consumed. */
int consume_skb(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx->args[TP_consume_skb__skb];
	__u64 location = ctx->args[TP_consume_skb__location];
	struct config *cfg = the_settings();
	bool ipv6 = false, splits = false;

	if (location - cfg->fragment4 < cfg->fragment4_size) {
		splits = splits4(skb);
	} else if (location - cfg->fragment6 < cfg->fragment6_size) {
		splits = splits6(skb);
		ipv6 = true;
	}
	/* What follows is verified once, for both. */
	asm volatile("" : "+r"(ipv6));
	if (splits)
		fragmenting(skb, ipv6);
	return 0;
}
#endif
