/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Catches oversize packets on bridged tunnels: skb_tunnel_check_pmtu() (5.9)
 * turns them in place into the ICMP message, which never passes __icmp_send().
 * net:netif_rx, all kernels. Hot: once for each packet on veth and loopback. */

#define LONGEST_MESSAGE 1280

struct message4 {
	__u8 version_ihl, tos;
	__u16 be_tot_len, be_id, be_frag_off;
	__u8 ttl, protocol;
	__u16 be_check;
	__u32 be_saddr, be_daddr;
	__u8 type, code;
	__u16 be_icmp_check, be_unused, be_mtu;
	__u8 quoted_version, quoted_tos;
	__u16 be_quoted_len;
	__u8 quoted_rest[8];
	__u32 be_quoted_saddr, be_quoted_daddr;
};

struct message6 {
	__u32 be_version;
	__u16 be_payload;
	__u8 nexthdr, hop_limit;
	__u64 saddr[2], daddr[2];
	__u8 type, code;
	__u16 be_check;
	__u32 be_mtu;
	__u32 be_quoted_version;
	__u16 be_quoted_payload;
	__u8 quoted_nexthdr, quoted_hop_limit;
	__u64 quoted_saddr[2], quoted_daddr[2];
};

/* The message comes from whom the packet was for, and goes to whom it came
 * from: no router's does. */
static __always_inline bool built_in_place4(struct refusal *r)
{
	struct message4 m;

	if (peek(&r->packet, r->packet.at, &m, sizeof(m)) ||
	    m.version_ihl != 0x45 || m.protocol != PROTO_ICMP ||
	    !is_too_big(4, m.type, m.code) || m.be_saddr != m.be_quoted_daddr ||
	    m.be_daddr != m.be_quoted_saddr)
		return false;
	r->mtu = be16(m.be_mtu);
	r->length = be16(m.be_quoted_len);
	r->packet.at += 28;
	return true;
}

static __always_inline bool built_in_place6(struct refusal *r)
{
	struct message6 m;

	if (peek(&r->packet, r->packet.at, &m, sizeof(m)) ||
	    m.nexthdr != PROTO_ICMPV6 || !is_too_big(6, m.type, m.code) ||
	    m.saddr[0] != m.quoted_daddr[0] || m.saddr[1] != m.quoted_daddr[1] ||
	    m.daddr[0] != m.quoted_saddr[0] || m.daddr[1] != m.quoted_saddr[1])
		return false;
	r->mtu = be32(m.be_mtu);
	r->length = be16(m.be_quoted_payload) + 40;
	r->packet.at += 48;
	return true;
}

static __always_inline bool on_tunnel(struct net_device *dev)
{
	__u8 kind[16] __attribute__((aligned(8))) = {}; /* see copy_words() */

	copy_kind(kind, dev);
	return kind[0] == 'v' && kind[1] == 'x' && kind[2] == 'l' ||
	       kind[0] == 'g' && kind[1] == 'e' && kind[2] == 'n';
}

static __always_inline void turned(struct sk_buff *skb, struct refusal *r,
				   struct config *cfg)
{
	r->out = (struct net_device *)READ(skb, dev);
	if (!(r->ipv6 ? built_in_place6(r) : built_in_place4(r)) ||
	    !on_tunnel(r->out))
		return;
	r->start = fingerprint(&r->packet);
	forget();
	__builtin_memset(&r->key, 0, sizeof(r->key));
	r->key.netns = netns_inum(r->out);
	if (!is_watched(r->key.netns))
		return;
	r->key.ifindex = READ(r->out, ifindex);
	r->key.site = cfg->site_tunnel_check;
	r->key.verdict = VERDICT_TOLD;
	r->in_tunnel = false;
	r->location = 0;
	r->reason = 0;
	r->skb = skb;
	call_parse(r);
	call_report(r);
}

#ifdef HAVE_TP_netif_rx
int netif_rx(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx->args[0];
	__u16 protocol = LOAD(skb, protocol);
	struct packet p;
	struct here *cpu;
	struct refusal *r;
	__u8 upper = 0;

	if (LOAD(skb, len) > LONGEST_MESSAGE ||
	    (protocol != be16(ETH_P_IP) && protocol != be16(ETH_P_IPV6)))
		return 0;
	p = skb_packet(skb);
	if (peek(&p, p.at + (protocol == be16(ETH_P_IP) ? 9 : 6), &upper, 1) ||
	    (upper != PROTO_ICMP && upper != PROTO_ICMPV6))
		return 0;
	cpu = here();
	r = enter(cpu);
	if (!r)
		return 0;
	r->ipv6 = protocol == be16(ETH_P_IPV6);
	r->packet = p;
	turned(skb, r, the_settings());
	leave(cpu);
	return 0;
}
#endif
