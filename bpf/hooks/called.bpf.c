/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Reads what flow a packet is of; counts and streams what was refused. Attached
 * to nothing: programs call it, so that it is compiled once. */

/* Read the flow of r->packet into r->key, which is zero, as far as can be; the
 * cursor is left where that ended. Return 0, or -1 if there is no IP header. */
int parse(struct refusal *r)
{
	r->cursor = r->packet;
	return parse_flow(&r->cursor, r->start, &r->upper, &r->key);
}

static __always_inline void fill_packet(struct event *event, struct refusal *r)
{
	struct sk_buff *skb = r->skb;
	struct net_device *indev = READ(skb, dev);

	event->gso = gso_size(skb);
	event->mark = READ(skb, mark);
	event->in_ifindex = READ(skb, skb_iif);
	if (indev != r->out)
		copy_name(event->indev, indev);
	if (!r->ipv6 && starts_with_df(r->start))
		event->flags |= FLAG_DF;
}

/* For an outer packet: the device that has encapsulated it. */
static __always_inline void name_maker(struct refusal *r)
{
	r->maker = maker_of(r->skb, &r->key, r->ipv6);
	r->key.maker_netns = netns_inum(r->maker);
	r->key.maker_ifindex = r->maker ? READ(r->maker, ifindex) : 0;
}

static __always_inline void fill_drop(struct event *event, struct refusal *r)
{
	event->location = r->location;
	event->reason = r->reason;
	event->jiffies = bpf_jiffies64();
	event->length = r->length;
	event->mtu = r->mtu;
	if (r->key.verdict == VERDICT_LOST) {
		event->news_location = r->news_location;
		event->news_reason = r->news_reason;
		event->news_hook = r->news_hook;
	}
	copy_name(event->dev, r->out);
	copy_kind(event->kind, r->out);
	copy_name(event->maker, r->maker);
	copy_kind(event->maker_kind, r->maker);
}

/* Count a refusal and stream it when it is due: whoever has filled in r. A
 * socket may be refused before there is a packet. Without a verdict, it is a
 * packet that leaves as fragments. */
int report(struct refusal *r)
{
	bool dropped = r->key.verdict != VERDICT_NONE;
	struct config *cfg = the_settings();
	struct flow_count *count;
	struct event *event;
	__u64 packets;

	r->maker = 0;
	if (r->skb && r->in_tunnel)
		name_maker(r);
	forget();
	count = count_packet(cfg, r);
	if (!count)
		return 0;
	event = reserve_event(dropped ? EVENT_DROP : EVENT_FRAGMENTED, &r->key);
	if (!event)
		return 0;
	packets = count->packets + count->nested_packets;
	event->count = packets - count->streamed;
	count->streamed = packets;
	fill_drop(event, r);
	if (r->skb) {
		fill_packet(event, r);
	} else {
		event->flags = r->flags;
		event->mark = r->mark;
	}
	if (r->skb || !dropped)
		copy_packet(event, &r->packet, cfg->caplen);
	stream(event);
	return 0;
}
