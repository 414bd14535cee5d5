/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches a frag-needed or packet-too-big that is put in a queue: for its
 * neighbour, or the device's. neigh:neigh_event_send_done (5.0),
 * qdisc:qdisc_enqueue (5.15). Hot: once for each packet that has to queue. */

static __always_inline void waits(struct config *cfg, struct sk_buff *skb)
{
	struct news told = { .verdict = VERDICT_TOLD };
	struct waiting w = {};
	struct packet p = packet_of(skb);
	__u64 address = (__u64)skb;
	struct quote quote;
	struct news *news;
	bool ipv6;

	if (!is_own_message(&p, READ(skb, skb_iif), &quote, &ipv6))
		return;
	if (message_has_packet(cfg, ipv6)) {
		news = news_of_message(&quote, ipv6, &w.about);
		if (!news || news->verdict != VERDICT_TOLD)
			return;
		news->message = address;
	} else {
		told.message = address;
		w.about = quote_key(&quote);
		note_quoted(&quote, &told);
	}
	w.quoted = quote_hash(0, &quote);
	if (waiting.update(&address, &w))
		lose(LOSS_NEWS_FULL);
}

#ifdef HAVE_TP_neigh_event_send_done
/* What waits for its neighbour is the last in that one's queue. */
int neigh_event_send_done(struct bpf_raw_tracepoint_args *ctx)
{
	struct neighbour *neigh = (struct neighbour *)ctx->args[0];
	struct config *cfg;
	struct sk_buff *skb;
	int zero = 0;

	if (!(int)ctx->args[1])
		return 0;
	skb = READ(neigh, arp_queue.prev);
	cfg = settings.lookup(&zero);
	if (cfg && skb && (void *)skb != (void *)&neigh->arp_queue)
		waits(cfg, skb);
	return 0;
}
#endif

#ifdef HAVE_TP_qdisc_enqueue
int qdisc_enqueue(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb =
		(struct sk_buff *)ctx->args[TP_qdisc_enqueue__skb];
	int zero = 0;
	struct config *cfg = settings.lookup(&zero);
	__u64 *slot = emitting.lookup(&zero);

	/* Only what is being sent right now, where that can be seen. */
	if (cfg && slot && (*slot || !cfg->sent4 || !cfg->attempt6))
		waits(cfg, skb);
	return 0;
}
#endif
