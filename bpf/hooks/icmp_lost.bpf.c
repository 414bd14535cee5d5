/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches a frag-needed or packet-too-big of this host's own that is freed,
 * at once or after it waited. Called from skb:kfree_skb: all kernels.
 * Cold: a few loads for every packet freed for another reason than its size. */

#define QUOTE4 24 /* as much as every IPv4 packet has */

/* Is the packet known when its message is sent? Else only the message is. */
static __always_inline bool message_has_packet(struct config *cfg, bool ipv6)
{
	return ipv6 ? cfg->attempt6 : cfg->sent4;
}

/* A frag-needed or packet-too-big of this host's own? */
static __always_inline bool is_own_message(const struct packet *p, __u32 iif,
					   struct quote *quote, bool *ipv6)
{
	struct {
		__u8 version_ihl, tos;
		__u16 be_tot_len, be_id, be_frag_off;
		__u8 ttl, protocol;
		__u16 be_check;
		__u32 be_saddr, be_daddr;
		__u8 type, code;
	} ip;
	/* Before the message has its Ethernet type, its first octet tells. */
	__u8 version = 0;

	if (iif || peek(p, p->at, &version, 1))
		return false;
	__builtin_memset(quote, 0, sizeof(*quote));
	*ipv6 = version >> 4 == 6;
	if (*ipv6)
		return quotes(p, quote);
	return version == 0x45 && !peek(p, p->at, &ip, sizeof(ip)) &&
	       ip.protocol == PROTO_ICMP &&
	       is_too_big(4, ip.type, ip.code) &&
	       !peek(p, p->at + 28, quote, QUOTE4);
}

/* The packet whose message is in the output path of this CPU, if there is. */
static __always_inline struct news *emitted(__u64 *about)
{
	struct here *cpu = here();
	struct news *news;

	if (!cpu || !cpu->emitting)
		return 0;
	*about = cpu->emitting;
	news = news_of.lookup(about);
	return news && news->verdict ? news : 0;
}

/* The message about the packet in hand, if this is it: it quotes that one. */
static __always_inline struct news *news_of_message(const struct quote *quote,
						    bool ipv6, __u64 *about)
{
	struct news *news = emitted(about);
	struct quote whole = {};
	struct packet packet;

	if (!news)
		return 0;
	packet = packet_of((struct sk_buff *)*about);
	if (peek(&packet, packet.at, &whole, 20))
		return 0;
	/* IPv4: the identification. Both: what lies at the source address. */
	if ((!ipv6 && whole.octets[0] >> 32 != quote->octets[0] >> 32) ||
	    whole.octets[1] >> 32 != quote->octets[1] >> 32)
		return 0;
	return news;
}

/*
 * Which of netfilter's hooks has the message come to? ip_output() gives it its
 * device before POSTROUTING, and it has no link-layer header until later.
 */
static __always_inline __u8 hook_of(struct sk_buff *skb)
{
	if (!LOAD_POINTER(skb, dev))
		return HOOK_OUTPUT;
	return LOAD(skb, mac_header) == (typeof(skb->mac_header))~0 ?
		       HOOK_POSTROUTING :
		       HOOK_NONE;
}

static __always_inline void mark_lost(struct news *news,
				      const struct refusal *r)
{
	news->verdict = VERDICT_LOST;
	news->location = r->location;
	news->reason = r->reason;
	news->hook = r->hook;
	news->message = 0;
}

/* The line of a message that cannot be laid to a drop to come. */
static __always_inline void stream_lost(struct sk_buff *skb, struct refusal *r)
{
	struct event *event = reserve_event(EVENT_ICMP_LOST, &r->key);

	if (!event)
		return;
	event->flags = r->flags;
	event->location = r->location;
	event->reason = r->reason;
	event->news_hook = r->hook;
	event->length = network_length(skb, &r->packet);
	copy_packet(event, &r->packet, sizeof(event->packet)); /* to be read */
	stream(event);
}

/* Nothing else is known of it. */
static __always_inline void lost_alone(struct sk_buff *skb, struct refusal *r)
{
	struct dst_entry *dst = skb_dst(skb);
	struct net_device *dev = dst ? READ(dst, dev) : (void *)READ(skb, dev);

	__builtin_memset(&r->key, 0, sizeof(r->key));
	r->key.netns = netns_inum(dev);
	if (!is_watched(r->key.netns))
		return;
	r->key.ifindex = dev ? READ(dev, ifindex) : 0;
	r->flags = 0;
	r->line = true;
}

/*
 * A drop that was counted as told is counted as lost from now on: one packet is
 * taken from one counter, and added to another. A counter of this CPU may go
 * below zero; what they add up to cannot. Lines have shown the drop already, so
 * what is yet to be shown stays what it was.
 */
static __always_inline bool move_count(struct config *cfg, struct refusal *r)
{
	const __u64 more = (VERDICT_LOST - VERDICT_TOLD) << 16;
	__u64 now = bpf_jiffies64(), sign;
	struct flow_count *count;

#pragma clang loop unroll(disable)
	for (sign = -1;; sign = 1) {
		count = counter_of(r);
		if (!count)
			return false;
		__sync_fetch_and_add(&count->nested_packets, sign);
		__sync_fetch_and_add(&count->streamed, sign);
		__sync_fetch_and_add(&count->nested_bytes, sign * r->length);
		if (sign == 1)
			break;
		/* Both of digest_of()'s sums grow by what that word has more. */
		r->key.verdict = VERDICT_LOST;
		r->digest.first += FACTORS(cfg)[WORD_SITE] * more;
		r->digest.second += FACTORS(cfg)[WORD_SITE + 1] * more;
		forget();
	}
	if (!count->first)
		count->first = now;
	count->last = now;
	if (r->length > count->max_length)
		count->max_length = r->length;
	if (!count->mtu)
		count->mtu = r->mtu;
	return is_due(cfg, &r->key, count, now, count->mtu) || r->first ||
	       cfg->every;
}

/* Had this message waited in a queue? If so, it is settled here. */
static __always_inline bool lost_waiting(struct config *cfg,
					 struct sk_buff *skb, struct refusal *r,
					 const struct quote *quote, bool ipv6)
{
	__u64 address = (__u64)skb, about;
	struct waiting *w = waiting.lookup(&address);
	struct news *news;

	if (!w || w->quoted != quote_hash(0, quote))
		return false;
	if (w->counted) {
		r->key = w->key;
		r->digest = w->digest;
		r->length = w->length;
		r->mtu = w->mtu;
		waiting.delete(&address);
		forget();
		r->flags = FLAG_COUNTED_TOLD;
		r->line = move_count(cfg, r);
		return true;
	}
	about = w->about;
	waiting.delete(&address);
	news = message_has_packet(cfg, ipv6) ? news_of.lookup(&about) :
					       quoted_news.lookup(&about);
	if (news && news->verdict == VERDICT_TOLD && news->message == address)
		mark_lost(news, r);
	return true;
}

/*
 * If the packet in hand is a message, or carries one in a tunnel (then the
 * cursor stands at it), its news is that it was lost. Such a message was being
 * sent when this packet was refused.
 */
static __always_inline void lose_message(struct config *cfg,
					 struct sk_buff *skb,
					 struct refusal *r, bool bare)
{
	struct quote *quote = &r->quote;
	struct news *news;
	__u64 about;
	bool ipv6;

	if (!is_own_message(&r->cursor, LOAD(skb, skb_iif), quote, &ipv6))
		return;
	r->hook = hook_of(skb);
	if (lost_waiting(cfg, skb, r, quote, ipv6))
		return;
	if (message_has_packet(cfg, ipv6)) {
		news = news_of_message(quote, ipv6, &about);
	} else if (bare) {
		struct news lost = {};

		mark_lost(&lost, r);
		note_quoted(quote, &lost);
		return;
	} else {
		about = quote_key(quote);
		news = quoted_news.lookup(&about);
	}
	if (news) {
		mark_lost(news, r);
		if (ipv6 == r->ipv6)
			r->nested = true;
	} else if (bare) {
		lost_alone(skb, r);
	}
}

/* The packet in hand is freed. Only a message that is not in a tunnel gets a
 * line if nothing else is known of it. */
static __always_inline void message_lost(struct config *cfg,
					 struct sk_buff *skb,
					 struct refusal *r, bool bare)
{
	r->line = false;
	lose_message(cfg, skb, r, bare);
	forget();
	if (r->line)
		stream_lost(skb, r);
}
