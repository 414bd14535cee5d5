/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches a frag-needed or packet-too-big of this host's own that is freed.
 * Called from skb:kfree_skb for what was not refused for its size: all kernels.
 * Cold: a few loads for every packet freed for another reason. */

#define QUOTE4 24 /* as much as every IPv4 packet has */

/* Is the packet known when its message is sent? Else only the message is. */
static __always_inline bool message_has_packet(struct config *cfg, bool ipv6)
{
	return ipv6 ? cfg->attempt6 : cfg->sent4;
}

/* A frag-needed or packet-too-big of this host's own that is being freed. */
static __always_inline bool is_own_message(struct sk_buff *skb,
					   const struct packet *p,
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

	if (LOAD(skb, skb_iif) || peek(p, p->at, &version, 1))
		return false;
	*ipv6 = version >> 4 == 6;
	if (*ipv6)
		return quotes(p, quote);
	return version == 0x45 && !peek(p, p->at, &ip, sizeof(ip)) &&
	       ip.protocol == PROTO_ICMP &&
	       is_too_big(4, ip.type, ip.code) &&
	       !peek(p, p->at + 28, quote, QUOTE4);
}

/* A message that had waited for its neighbour: its packet is long gone. */
static __always_inline bool is_late(__u32 reason)
{
#ifdef HAVE_ENUM_skb_drop_reason
	return reason >= SKB_DROP_REASON_NEIGH_CREATEFAIL &&
	       reason <= SKB_DROP_REASON_NEIGH_DEAD;
#else
	return false;
#endif
}

/* The message about the packet in hand, if this is it: it quotes that one. */
static __always_inline struct news *news_of_message(const struct quote *quote,
						    bool ipv6)
{
	struct quote whole = {};
	int zero = 0;
	__u64 *skb = emitting.lookup(&zero);
	struct news *news = skb ? news_of.lookup(skb) : 0;
	struct packet about;

	if (!news || !news->verdict)
		return 0;
	about = packet_of((struct sk_buff *)*skb);
	if (peek(&about, about.at, &whole, 20))
		return 0;
	/* IPv4: the identification. Both: what lies at the source address. */
	if ((!ipv6 && whole.octets[0] >> 32 != quote->octets[0] >> 32) ||
	    whole.octets[1] >> 32 != quote->octets[1] >> 32)
		return 0;
	return news;
}

static __always_inline void stream_lost(struct config *cfg, struct sk_buff *skb,
					const struct packet *p, __u64 location,
					__u32 reason)
{
	struct dst_entry *dst = skb_dst(skb);
	struct net_device *dev = dst ? READ(dst, dev) : (void *)READ(skb, dev);
	struct event *event;
	__u32 netns = netns_inum(dev);

	if (cfg->filter_netns && !watched_netns.lookup(&netns))
		return;
	event = reserve_event(EVENT_ICMP_LOST);
	if (!event)
		return;
	event->location = location;
	event->reason = reason;
	event->length = network_length(skb, p);
	event->key.netns = netns;
	event->key.ifindex = dev ? READ(dev, ifindex) : 0;
	copy_name(event->dev, dev);
	copy_packet(event, p, cfg->caplen);
	stream(event);
}

static __always_inline void message_lost(struct config *cfg,
					 struct sk_buff *skb,
					 const struct packet *p,
					 __u64 location, __u32 reason)
{
	struct quote quote = {};
	struct news *news;
	bool ipv6;

	if (!is_own_message(skb, p, &quote, &ipv6))
		return;
	if (!is_late(reason) && !message_has_packet(cfg, ipv6)) {
		note_quoted(&quote, VERDICT_LOST, location, reason);
		return;
	}
	news = is_late(reason) ? 0 : news_of_message(&quote, ipv6);
	if (!news) {
		stream_lost(cfg, skb, p, location, reason);
		return;
	}
	news->verdict = VERDICT_LOST;
	news->location = location;
	news->reason = reason;
}

