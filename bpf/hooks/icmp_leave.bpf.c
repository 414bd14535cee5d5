/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches a packet-too-big on its way out: no tracepoint tells of its sending.
 * net:net_dev_queue, where nothing better.
 * Hot: once for each packet sent; what is not IPv6 leaves after one load. */

/* One number for the context and what it is telling about. */
static __always_inline __u64 quote_hash(__u64 key, const struct quote *quote)
{
	int i;

	for (i = 0; i < 6; i++)
		key = (key ^ quote->octets[i]) * 0x9e3779b97f4a7c15ULL;
	return key ^ key >> 32;
}

static __always_inline __u64 quote_key(const struct quote *quote)
{
	return quote_hash(context_key(), quote);
}

/* If this is a packet-too-big, read what it quotes. *at is where the IPv6
 * header begins. */
static __always_inline bool quotes(const struct packet *p, struct quote *quote)
{
	__u8 nexthdr = 0, type = 0;

	return !peek(p, p->at + 6, &nexthdr, 1) && nexthdr == PROTO_ICMPV6 &&
	       !peek(p, p->at + 40, &type, 1) && type == ICMPV6_PKT_TOOBIG &&
	       !peek(p, p->at + 48, quote, sizeof(*quote));
}

static __always_inline void note_quoted(const struct quote *quote,
					struct news *news)
{
	__u64 key = quote_key(quote);

	if (is_recording() && quoted_news.update(&key, news))
		lose(LOSS_NEWS_FULL);
}

static __always_inline void seen_leaving(struct sk_buff *skb)
{
	struct news told = { .verdict = VERDICT_TOLD };
	struct packet p = packet_of(skb);
	struct quote quote;

	/* What came in by a device is another host's message. */
	if (quotes(&p, &quote) && !READ(skb, skb_iif))
		note_quoted(&quote, &told);
}

#ifdef HAVE_TP_net_dev_queue
int net_dev_queue(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx->args[0];

	if (LOAD(skb, protocol) == be16(ETH_P_IPV6))
		seen_leaving(skb);
	return 0;
}
#endif
