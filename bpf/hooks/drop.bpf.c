/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches every freed packet and keeps those that were too big to go through.
 * skb:kfree_skb, all kernels; reason since 5.17, found by name in BTF.
 * Cold: other packets leave after the reason, or a search and a look-up. */

/*
 * Which piece of which function freed it? A binary search over 64 entries,
 * without branches: each would double what the verifier has to follow. All
 * addresses lie in the upper half, so the sign of a difference compares them.
 */
static __always_inline struct site_range *entry(struct site_table *table,
						__u64 at)
{
	/* Bounded where it is used, in a form that every verifier follows. */
	asm volatile("%0 &= 63" : "+r"(at));
	return &table->range[at];
}

static __always_inline __u64 search_site(struct site_table *table,
					 __u64 location)
{
	__u64 at = 0;
	int step;

#pragma unroll
	for (step = 32; step; step >>= 1)
		at += step & ~((__s64)(location -
				       entry(table, at + step)->start) >> 63);
	return at;
}

/* A site in one word: what ends its struct site_range. */
#define SITE_IPV4(site) ((__u16)(site))
#define SITE_IPV6(site) ((__u16)((site) >> 16))
#define SITE_CHECK(site) ((__u8)((site) >> 32))
#define SITE_SILENT (1ULL << 40)
#define SITE_UNLISTED (1ULL << 41)
#define SITE_GENERATION 48
_Static_assert(__builtin_offsetof(struct site_range, site) == 16 &&
		       __builtin_offsetof(struct site_range, silent) == 21,
	       "a site");

static __always_inline __u64 unlisted(struct config *cfg)
{
	return SITE_UNLISTED | SITE_SILENT | (__u64)CHECK_NEWS << 32 |
	       cfg->site_other << 16 | cfg->site_other;
}

/*
 * Where was it freed? The same few locations come again, so what was found is
 * kept. Another CPU may be writing while it is read: location and site are put
 * into one number, and of two that do not belong together no location comes
 * out, since all are of the same 2^48 octets, and the generation of a table,
 * which is never zero, is above that.
 */
static __always_inline __u64 site_of(struct config *cfg, __u64 location)
{
	__u64 version = cfg->site_table;
	__u64 generation = (version & 0x7fff) | 0x8000;
	struct site_found *found =
		&the_found_sites()->at[(__u8)(location ^ location >> 8)];
	struct site_table *table = &the_sites()->table[version & 1];
	struct site_range *range;
	__u64 site = found->site;

	/* Read once: what is compared is what is returned. */
	asm volatile("" : "+r"(site));
	if ((found->mixed ^ site) == location &&
	    site >> SITE_GENERATION == generation)
		return site;
	range = entry(table, search_site(table, location));
	site = location >= range->start && location < range->end ?
		       *(__u64 *)&range->site :
		       unlisted(cfg);
	site |= generation << SITE_GENERATION;
	found->site = site;
	found->mixed = location ^ site;
	return site;
}

/* It is about to leave by skb->dev, which is a port of a bridge or a veth. */
static __always_inline bool refuses_frames(const struct refusal *r)
{
	return r->check == CHECK_BRIDGE || r->check == CHECK_RECEIVER ||
	       r->check == CHECK_BRIDGE_FRAGMENT4 || r->check == CHECK_PORT;
}

/* The MTU in force at the site, as its own code computes it. */
static __always_inline __u32 mtu_at(struct sk_buff *skb, struct refusal *r)
{
	__u64 mtu, largest = 0;

	if (r->check == CHECK_RECEIVER)
		return mtu_of_receiver(r->out);
	if (r->check == CHECK_BRIDGE || r->check == CHECK_PORT)
		return READ(r->out, mtu);
	if (!r->dst)
		return 0;
	if (r->ipv6) {
		struct inet6_skb_parm *cb = (struct inet6_skb_parm *)&skb->cb;

		mtu = mtu_ipv6(r->dst, r->out, r->check == CHECK_FORWARD6);
		largest = READ(cb, frag_max_size);
	} else {
		bool bridging = r->check == CHECK_BRIDGE_FRAGMENT4;
		bool forwarding = r->check == CHECK_FORWARD4 ||
				  LOAD_CB(skb, inet_skb_parm, flags) &
					  IPSKB_FORWARDED;

		mtu = mtu_ipv4(r->dst, bridging ? READ(r->dst, dev) : r->out,
			       forwarding && !bridging);
		largest = LOAD_CB(skb, inet_skb_parm, frag_max_size);
		if (bridging) {
			r->joined = largest > mtu;
			mtu = READ(r->out, mtu);
		}
	}
	/* Never refragment to larger pieces than arrived. */
	return largest && largest < mtu ? largest : mtu;
}

/*
 * Was it refused for its size? Where the kernel gives a reason of its own, or
 * tried to tell the sender, that is the answer. Otherwise the site's own test
 * is made again.
 */
static __always_inline bool refused_for_size(struct sk_buff *skb,
					     struct refusal *r)
{
	bool may_split = READ_BITS(skb, sk_buff, ignore_df);
	__u8 ttl = 0;

	if (r->check == CHECK_ALWAYS)
		return true;
	if (r->check == CHECK_BRIDGE || r->check == CHECK_RECEIVER)
		return !is_forwardable(skb, r->out, r->mtu);
	if (r->check == CHECK_PORT)
		return frame_length(skb, r->out) > r->mtu && !gso_size(skb);
	if (r->joined)
		return true;
	/* The size is tested with a route: IPsec refuses, and takes it away. */
	if (!r->mtu || r->length <= r->mtu || may_split || !r->start)
		return false;
	/* TTL and hop limit are tested before the size. */
	switch (r->check) {
	case CHECK_FRAGMENT4:
	case CHECK_BRIDGE_FRAGMENT4:
		return starts_with_df(r->start);
	case CHECK_FRAGMENT6:
		return true;
	case CHECK_FORWARD4:
		return starts_with_df(r->start) &&
		       !peek(&r->packet, r->packet.at + 8, &ttl, 1) && ttl > 1;
	case CHECK_FORWARD6:
		return OCTET(r->start, 7) > 1;
	}
	return false;
}

static __always_inline void take(struct refusal *r, const struct news *news)
{
	r->known = news->verdict;
	r->cause = news->cause;
	r->nested = news->nested;
	r->told_mtu = news->mtu;
	r->message = news->message;
	if (r->known == VERDICT_LOST) {
		r->news_location = news->location;
		r->news_reason = news->reason;
		r->news_hook = news->hook;
	} else if (r->known == VERDICT_LOCAL) {
		__u64 context = context_key();

		remarks.delete(&context);
	}
}

/* The message is out: the one that was under way before it goes on. */
static __always_inline void stop_emitting(struct here *cpu, __u64 skb,
					  const struct news *news)
{
	if (cpu->emitting == skb)
		cpu->emitting = news->under;
}

/* What is known of the message to the sender, taken out of the books. */
static __always_inline void take_news(struct sk_buff *skb, struct refusal *r,
				      struct here *cpu, struct config *cfg)
{
	__u64 key = (__u64)skb;
	struct news *news = news_of.lookup(&key);

	if (news && news->verdict && news->fingerprint == r->start) {
		stop_emitting(cpu, key, news);
		news->under = 0;
	} else {
		r->known = VERDICT_NONE;
		r->cause = CAUSE_NONE;
		r->nested = 0;
		r->told_mtu = 0;
		r->message = 0;
		r->about = key;
		__builtin_memset(&r->quote, 0, sizeof(r->quote));
		if (message_has_packet(cfg, r->ipv6) ||
		    (r->ipv6 ? peek(&r->packet, r->packet.at, &r->quote,
				    sizeof(r->quote)) :
			       peek(&r->packet, r->packet.at, &r->quote,
				    QUOTE4)))
			return;
		key = quote_key(&r->quote);
		news = quoted_news.lookup(&key);
		if (!news)
			return;
	}
	r->about = key;
	take(r, news);
	if (key == (__u64)skb)
		news->verdict = VERDICT_NONE;
	else
		quoted_news.delete(&key);
}

/* Was there a way back to the sender, as far as the kernel looked? */
static __always_inline enum way_back
way_back(struct refusal *r, struct here *cpu, struct config *cfg)
{
	__u32 be_saddr;

	if (!cfg->routes)
		return WAY_BACK_UNSEEN;
	if (peek(&r->packet, r->packet.at + 12, &be_saddr, sizeof(be_saddr)) ||
	    cpu->route.be_daddr != be_saddr)
		return WAY_BACK_NOT_ASKED;
	return cpu->route.failed ? WAY_BACK_NONE : WAY_BACK_FOUND;
}

static __always_inline void judge(struct sk_buff *skb, struct refusal *r,
				  struct here *cpu, struct config *cfg)
{
	struct flow_key *key = &r->key;
	enum way_back way;

	if (r->known) {
		key->verdict = r->known;
	} else if (r->silent || (r->ipv6 ? cfg->attempt6 : cfg->attempt4)) {
		/* Every attempt would have been seen: there was none. */
		key->verdict = VERDICT_NEVER_ATTEMPTED;
	} else {
		key->verdict = VERDICT_SUPPRESSED;
	}
	if (key->verdict != VERDICT_SUPPRESSED)
		return;
	if (r->cause) {
		key->cause = r->cause;
		return;
	}
	if (r->ipv6) {
		way = WAY_BACK_UNSEEN;
		key->cause = why_not_ipv6(skb, &r->packet, &r->upper, key,
					  r->nested, cfg->why);
	} else {
		way = way_back(r, cpu, cfg);
		key->cause = why_not_ipv4(skb, &r->packet, r->nested, way);
	}
	/* Where no sending can be seen and nothing speaks against it, it was
	 * sent: the kernel makes the same tests. */
	if (!(r->ipv6 ? cfg->sent6 : cfg->sent4) && way != WAY_BACK_NONE &&
	    (key->cause == CAUSE_NO_ROUTE_BACK || key->cause >= CAUSE_NO_ROOM)) {
		key->verdict = VERDICT_TOLD;
		key->cause = CAUSE_NONE;
	}
}

enum finding {
	FOUND_REFUSED, /* for its size */
	FOUND_OTHER,   /* freed where nobody refuses packets for their size */
	FOUND_NOTHING,
};

static __always_inline enum finding
examine(struct sk_buff *skb, struct refusal *r, struct here *cpu,
	struct config *cfg)
{
	bool certain = false;
	__u64 site;

#ifdef TP_kfree_skb__reason
	certain = r->reason == SKB_DROP_REASON_PKT_TOO_BIG;
	if (!certain && r->reason != SKB_DROP_REASON_NOT_SPECIFIED)
		return FOUND_OTHER;
#endif
	/* A header that cannot be read is IPv4's concern: CAUSE_BAD_HEADER. */
	r->start = fingerprint(&r->packet);
	r->ipv6 = starts_ipv6(r->start);
	site = site_of(cfg, r->location);
	r->site = r->ipv6 ? SITE_IPV6(site) : SITE_IPV4(site);
	r->check = SITE_CHECK(site);
	r->silent = !!(site & SITE_SILENT);
	take_news(skb, r, cpu, cfg);
	/* What another's news quotes: it is passed on, and nothing was dropped. */
	if (r->check == CHECK_RELAY)
		return FOUND_NOTHING;
	if (!certain && !r->known && site & SITE_UNLISTED)
		return FOUND_OTHER;
	forget();
	r->dst = skb_dst(skb);
	r->out = r->dst && !refuses_frames(r) ? READ(r->dst, dev) : 0;
	if (r->check == CHECK_PORT)
		r->out = port_of(skb);
	if (r->check == CHECK_PORT && !r->out)
		return FOUND_NOTHING; /* where the hook is not attached */
	if (!r->out) /* no route, or one that is only a tunnel's metadata */
		r->out = (struct net_device *)READ(skb, dev);
	r->length = network_length(skb, &r->packet);
	r->joined = false;
	r->mtu = r->told_mtu ? r->told_mtu : mtu_at(skb, r);
	/* A tunnel's own limit is not that of the route to the tunnel. */
	if (!r->told_mtu && r->check == CHECK_NEWS && r->mtu >= r->length)
		r->mtu = 0;
	return certain || r->known || refused_for_size(skb, r) ? FOUND_REFUSED :
								 FOUND_NOTHING;
}

/* Its message waits in a queue: if that one dies there, this is its drop. */
static __always_inline void note_counted(struct refusal *r)
{
	struct waiting *w = waiting.lookup(&r->message);

	if (!w || w->about != r->about)
		return;
	w->key = r->key;
	w->digest = r->digest;
	w->length = r->length;
	w->mtu = r->mtu;
	w->counted = 1;
}

static __always_inline void freed(struct sk_buff *skb, struct refusal *r,
				  struct here *cpu, struct config *cfg)
{
	enum finding finding = examine(skb, r, cpu, cfg);

	forget();
	__builtin_memset(&r->key, 0, sizeof(r->key));
	if (finding == FOUND_REFUSED)
		call_parse(r); /* if it can be read */
	else
		r->cursor = r->packet;
	forget();
	message_lost(cfg, skb, r, finding == FOUND_OTHER);
	if (finding != FOUND_REFUSED || !cfg->counting)
		return;
	forget();
	r->key.netns = netns_inum(r->out);
	if (!is_watched(r->key.netns))
		return;
	r->key.ifindex = r->out ? READ(r->out, ifindex) : 0;
	r->key.site = r->site;
	r->in_tunnel = is_in_tunnel(cpu, r->stack);
	judge(skb, r, cpu, cfg);
	/* What was looked up for this packet says nothing about the next. */
	cpu->route.be_daddr = 0;
	forget();
	r->skb = skb;
	call_report(r);
	if (r->message && r->key.verdict == VERDICT_TOLD)
		note_counted(r);
}

int kfree_skb(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx->args[TP_kfree_skb__skb];
	struct here *cpu = here();
	struct refusal *r = enter(cpu);

	if (!r)
		return 0;
	r->packet = skb_packet(skb);
	r->stack = (__u64)ctx; /* its arguments are there */
	r->location = ctx->args[TP_kfree_skb__location];
#ifdef TP_kfree_skb__reason
	r->reason = ctx->args[TP_kfree_skb__reason];
#else
	r->reason = 0;
#endif
	freed(skb, r, cpu, the_settings());
	leave(cpu);
	return 0;
}
