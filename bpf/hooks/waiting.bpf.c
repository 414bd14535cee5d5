/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches a frag-needed or packet-too-big that is put in a queue: for its
 * neighbour, or the device's. neigh:neigh_event_send_done (5.0),
 * qdisc:qdisc_enqueue (5.15). Hot: once for each packet that has to queue. */

/* If this packet is a message, note that it waits. Called, as what is in
 * called.bpf.c. */
int queued(struct sk_buff *skb)
{
	struct news told = { .verdict = VERDICT_TOLD };
	struct waiting w = {};
	struct packet p = packet_of(skb);
	__u64 address = (__u64)skb;
	struct config *cfg = the_settings();
	struct quote quote;
	struct news *news;
	bool ipv6;

	if (!is_own_message(&p, READ(skb, skb_iif), &quote, &ipv6))
		return 0;
	if (message_has_packet(cfg, ipv6)) {
		news = news_of_message(&quote, ipv6, &w.about);
		if (!news || news->verdict != VERDICT_TOLD)
			return 0;
		news->message = address;
	} else {
		told.message = address;
		w.about = quote_key(&quote);
		note_quoted(&quote, &told);
	}
	w.quoted = quote_hash(0, &quote);
	if (waiting.update(&address, &w))
		lose(LOSS_NEWS_FULL);
	return 0;
}

#ifdef HAVE_TP_neigh_event_send_done
/* What waits for its neighbour is the last in that one's queue. */
int neigh_event_send_done(struct bpf_raw_tracepoint_args *ctx)
{
	struct neighbour *neigh = (struct neighbour *)ctx->args[0];
	struct sk_buff *skb;

	if (!(int)ctx->args[1])
		return 0;
	skb = READ(neigh, arp_queue.prev);
	if (skb && (void *)skb != (void *)&neigh->arp_queue)
		call_queued(skb);
	return 0;
}
#endif

#ifdef HAVE_TP_qdisc_enqueue
int qdisc_enqueue(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb =
		(struct sk_buff *)ctx->args[TP_qdisc_enqueue__skb];
	struct config *cfg = the_settings();
	struct here *cpu = here();

	/* Only what is being sent right now, where that can be seen. */
	if (cpu && (cpu->emitting || !cfg->sent4 || !cfg->attempt6))
		call_queued(skb);
	return 0;
}
#endif
