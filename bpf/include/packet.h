/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * From a packet in memory to the flow it belongs to: the innermost addresses,
 * protocol and ports, through VXLAN, Geneve, GRE, IPIP and SIT, and on the host
 * that made them, FOU and GUE. Reads only what lies in the linear part; what
 * cannot be read is left zero.
 */
#ifndef PMTUTRACE_PACKET_H
#define PMTUTRACE_PACKET_H

#define PROTO_ICMP 1
#define PROTO_IPIP 4
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_IPV6 41
#define PROTO_GRE 47
#define PROTO_ESP 50
#define PROTO_AH 51
#define PROTO_ICMPV6 58
#define PROTO_L2TP 115
#define PROTO_SCTP 132
#define PROTO_UDPLITE 136
#define PROTO_DCCP 33

#define PORT_VXLAN 4789
#define PORT_VXLAN_LINUX 8472 /* what the kernel used before the IANA number */
#define PORT_GENEVE 6081
#define PORT_ESP 4500 /* RFC 3948 */

#define GRE_CSUM 0x8000
#define GRE_ROUTING 0x4000
#define GRE_KEY 0x2000
#define GRE_SEQ 0x1000
#define GRE_VERSION 0x0007

#define MAX_LAYERS 4
#define MAX_EXTENSIONS 4

/* Offsets count from head, as the kernel's own do. inner is where the kernel
 * says that the header inside a tunnel's is; it may be left from earlier. Whole
 * registers: of shorter ones the compiler clears the rest, by two instructions
 * each time. */
struct packet {
	const unsigned char *head;
	__u64 at;
	__u64 end;
	__u64 inner;
};

/* Copy size octets, a constant, from an offset. Return 0, or -1 if the linear
 * part does not reach as far. */
#define peek(p, at, to, size)                                                 \
	((at) + (size) > (p)->end ?                                           \
		 -1 :                                                         \
		 load_kernel(to, size, (p)->head + (at)))

static __always_inline void map_ipv4(__u8 *to, __u32 be_address)
{
	__u32 *words = (__u32 *)to; /* as they are read: see word_of() */

	words[0] = 0;
	words[1] = 0;
	words[2] = be32(0x0000ffff);
	words[3] = be_address;
}

/* Headers are read by words, since each load of a pointer that the verifier does
 * not know is checked by itself. Of a word, the first octet is the lowest: only
 * little-endian kernels are traced. */
#define OCTET(word, at) ((__u8)((word) >> 8 * (at)))
#define BE16(word, at) ((__u16)((word) >> 8 * (at)))
#define BE32(word, at) ((__u32)((word) >> 8 * (at)))

/*
 * What tells the packet at an address from another that gets the same address
 * later: the first 8 octets of its IP header, zero if they cannot be read.
 * Addresses are left out, since icmp_ndo_send() puts others in while it sends.
 */
static __always_inline __u64 fingerprint(const struct packet *p)
{
	__u64 octets = 0;

	peek(p, p->at, &octets, sizeof(octets));
	return octets;
}

static __always_inline bool starts_ipv6(__u64 start)
{
	return (start & 0xf0) == 0x60;
}

/* DF of IPv4 */
static __always_inline bool starts_with_df(__u64 start)
{
	return be16(BE16(start, 6)) & IP_DF;
}

/* What follows an IP header: where it starts, its protocol, and whether this
 * packet holds its beginning. */
struct upper {
	__u64 at;
	__u8 proto;
	__u8 first;
};

/* start is how the header at p->at begins: see fingerprint(). */
static __always_inline int parse_ipv4(const struct packet *p, __u64 start,
				      struct flow_key *key, struct upper *up)
{
	struct {
		__u64 second;
		__u32 be_daddr;
	} ip;
	__u8 version_ihl = OCTET(start, 0);

	if (version_ihl >> 4 != 4 || (version_ihl & 15) < 5 ||
	    peek(p, p->at + 8, &ip, 12))
		return -1;
	key->family = 4;
	key->proto = OCTET(ip.second, 1);
	map_ipv4(key->saddr, BE32(ip.second, 4));
	map_ipv4(key->daddr, ip.be_daddr);
	up->at = p->at + (version_ihl & 15) * 4;
	up->proto = OCTET(ip.second, 1);
	up->first = !(be16(BE16(start, 6)) & IP_OFFSET);
	return 0;
}

static __always_inline int parse_ipv6(const struct packet *p, __u64 start,
				      struct flow_key *key, struct upper *up)
{
	struct {
		__u8 saddr[16], daddr[16];
	} ip;
	int i;

	if (!starts_ipv6(start) || peek(p, p->at + 8, &ip, sizeof(ip)))
		return -1;
	key->family = 6;
	__builtin_memcpy(key->saddr, ip.saddr, 16);
	__builtin_memcpy(key->daddr, ip.daddr, 16);
	up->at = p->at + 8 + sizeof(ip);
	up->proto = OCTET(start, 6);
	up->first = 1;
	/* RFC 8200, 4.1: hop-by-hop 0, routing 43, fragment 44, options 60. */
	for (i = 0; i < MAX_EXTENSIONS; i++) {
		struct {
			__u8 nexthdr, hdrlen;
			__u16 be_frag_off;
		} ext;

		if (up->proto != 0 && up->proto != 43 && up->proto != 44 &&
		    up->proto != 60 && up->proto != PROTO_AH)
			break;
		if (peek(p, up->at, &ext, sizeof(ext))) {
			up->first = 0;
			break;
		}
		if (up->proto == 44) {
			up->first = !(be16(ext.be_frag_off) & 0xfff8);
			up->at += 8;
		} else if (up->proto == PROTO_AH) {
			up->at += (ext.hdrlen + 2) * 4;
		} else {
			up->at += (ext.hdrlen + 1) * 8;
		}
		up->proto = ext.nexthdr;
		if (!up->first)
			break;
	}
	key->proto = up->proto;
	return 0;
}

static __always_inline void parse_ports(const struct packet *p,
					struct flow_key *key,
					const struct upper *up)
{
	__u32 words[2] = {};
	__u8 type;

	key->be_sport = key->be_dport = 0;
	key->has_ports = 0;
	if (!up->first)
		return;
	switch (up->proto) {
	case PROTO_TCP:
	case PROTO_UDP:
	case PROTO_UDPLITE:
	case PROTO_SCTP:
	case PROTO_DCCP:
		if (peek(p, up->at, words, 4))
			return;
		key->be_sport = BE16(words[0], 0);
		key->be_dport = BE16(words[0], 2);
		key->has_ports = PORTS_SOURCE | PORTS_DESTINATION;
		return;
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		if (peek(p, up->at, words, 6))
			return;
		type = OCTET(words[0], 0);
		/* Echo and its reply; the identifier tells one ping from another. */
		if (up->proto == PROTO_ICMP ? type == 8 || type == 0 :
					      type == 128 || type == 129) {
			key->be_sport = BE16(words[1], 0);
			key->has_ports = PORTS_SOURCE;
		}
	}
}

/* Step over an Ethernet header, VLAN tags too; return what it carries, in host
 * order, and leave *at behind it. */
static __always_inline __u16 skip_ethernet(const struct packet *p, __u64 *at)
{
	__u16 be_type;
	int i;

	if (peek(p, *at + 12, &be_type, sizeof(be_type)))
		return 0;
	*at += ETH_HLEN;
	for (i = 0; i < 2; i++) {
		if (be16(be_type) != ETH_P_8021Q && be16(be_type) != ETH_P_8021AD)
			break;
		if (peek(p, *at + 2, &be_type, sizeof(be_type)))
			return 0;
		*at += VLAN_HLEN;
	}
	return be16(be_type);
}

/* Where the IP packet at an offset ends by what its header says; else 0. */
static __always_inline __u64 end_of(const struct packet *p, __u64 at)
{
	__u16 words[3] = {}; /* lengths: the second of IPv4, the third of IPv6 */

	if (peek(p, at, words, sizeof(words)))
		return 0;
	switch (words[0] >> 4 & 15) {
	case 4:
		return at + be16(words[1]);
	case 6:
		return at + 40 + be16(words[2]);
	}
	return 0;
}

/* UDP around a packet of this host, on any port: FOU or GUE. Both packets end
 * at the same octet, or the offset is not about this one. */
static __always_inline __u16 skip_noted(const struct packet *p, __u64 *at)
{
	__u8 version = 0;
	__u64 end;

	end = end_of(p, p->at);
	if (!end || end_of(p, p->inner) != end ||
	    peek(p, p->inner, &version, 1))
		return 0;
	*at = p->inner;
	return version >> 4 == 4 ? ETH_P_IP : ETH_P_IPV6;
}

/* If a tunnel header follows, return the type of what it carries and move *at
 * to it; else return 0. key has the ports of the header that it would follow; the
 * outermost key takes the VNI, key or SPI along.
 * RFC 2784, 2890 (GRE), 7348 (VXLAN), 8926 (Geneve), 4303, 3948 (ESP). */
static __always_inline __u16 skip_tunnel(const struct packet *p,
					 const struct flow_key *key,
					 struct flow_key *outermost,
					 const struct upper *up, __u64 *at)
{
	struct {
		__u16 be_flags, be_proto;
	} gre;
	__u64 header; /* what may be that of VXLAN or Geneve */
	__u32 be_id = 0;
	__u16 type, be_dport;
	__u8 flags;

	if (!up->first)
		return 0;
	*at = up->at;
	switch (up->proto) {
	case PROTO_IPIP:
		return ETH_P_IP;
	case PROTO_IPV6:
		return ETH_P_IPV6;
	case PROTO_GRE:
		if (peek(p, up->at, &gre, sizeof(gre)))
			return 0;
		gre.be_flags = be16(gre.be_flags);
		if (gre.be_flags & (GRE_VERSION | GRE_ROUTING))
			return 0;
		*at += 4;
		if (gre.be_flags & GRE_CSUM)
			*at += 4;
		if (gre.be_flags & GRE_KEY) {
			peek(p, *at, &be_id, sizeof(be_id));
			if (outermost)
				outermost->tunnel_id = be32(be_id);
			*at += 4;
		}
		if (gre.be_flags & GRE_SEQ)
			*at += 4;
		type = be16(gre.be_proto);
		if (type == ETH_P_ERSPAN)
			*at += gre.be_flags & GRE_SEQ ? 8 : 0;
		else if (type == ETH_P_ERSPAN2)
			*at += 12;
		if (type == ETH_P_TEB || type == ETH_P_ERSPAN ||
		    type == ETH_P_ERSPAN2)
			return skip_ethernet(p, at);
		return type;
	case PROTO_ESP:
		if (outermost && !peek(p, up->at, &be_id, sizeof(be_id)))
			outermost->tunnel_id = be32(be_id);
		return 0;
	case PROTO_UDP:
		be_dport = key->be_dport;
		type = be16(be_dport);
		if (type == PORT_ESP || be16(key->be_sport) == PORT_ESP) {
			/* 0 is what IKE puts there. */
			peek(p, up->at + 8, &be_id, sizeof(be_id));
			if (outermost)
				outermost->tunnel_id = be32(be_id);
			return 0;
		}
		/* Most packets have no tunnel's port, and nothing inside. */
		if ((type != PORT_VXLAN && type != PORT_VXLAN_LINUX &&
		     type != PORT_GENEVE && p->inner < up->at + 8) ||
		    peek(p, up->at + 8, &header, sizeof(header)))
			return 0;
		flags = OCTET(header, 0);
		if (type == PORT_VXLAN || type == PORT_VXLAN_LINUX) {
			/* The I flag must be set, else it is somebody's UDP. */
			if (!(flags & 0x08))
				return 0;
			type = ETH_P_TEB;
			*at += 16;
		} else if (type == PORT_GENEVE) {
			/* version 0; the low six bits count option words */
			if (flags & 0xc0)
				return 0;
			type = be16(BE16(header, 2));
			*at += 16 + (flags & 0x3f) * 4;
		} else if (flags == 4 && !OCTET(header, 1)) {
			return 0; /* WireGuard's data: the rest is ciphertext */
		} else {
			type = skip_noted(p, at);
			if (type && outermost)
				outermost->be_outer_dport = be_dport;
			return type;
		}
		if (outermost) {
			outermost->be_outer_dport = be_dport;
			outermost->tunnel_id = be32(BE32(header, 4)) >> 8;
		}
		return type == ETH_P_TEB ? skip_ethernet(p, at) : type;
	}
	return 0;
}

/* Fill the flow part of key from the packet whose outermost IP header is at
 * p->at and begins with start: see fingerprint(). Return 0, or -1 if there is
 * no IP header that can be read. */
static __always_inline int parse_flow(struct packet *p, __u64 start,
				      struct upper *up, struct flow_key *key)
{
	__u64 type = starts_ipv6(start) ? ETH_P_IPV6 : ETH_P_IP;
	__u64 at = 0, layer;

	for (layer = 0; layer < MAX_LAYERS; layer++) {
		/* Else the compiler computes before the loop, and stores, the
		 * address of each member that a tunnel would have filled in. */
		kept(key);
		if (layer == 1) {
			key->outer_family = key->family;
			key->outer_proto = key->proto;
			__builtin_memcpy(key->outer_saddr, key->saddr, 16);
			__builtin_memcpy(key->outer_daddr, key->daddr, 16);
		}
		if (type == ETH_P_IP ? parse_ipv4(p, start, key, up) :
				       parse_ipv6(p, start, key, up))
			break;
		parse_ports(p, key, up);
		type = skip_tunnel(p, key, layer ? 0 : key, up, &at);
		if (type != ETH_P_IP && type != ETH_P_IPV6) {
			type = 0; /* no IP in it: this is the innermost header */
			break;
		}
		p->at = at;
		start = fingerprint(p);
		forget();
	}
	if (layer == 1 && type) {
		/* What the tunnel header announced could not be read. */
		key->outer_family = key->outer_proto = 0;
		__builtin_memset(key->outer_saddr, 0, 16);
		__builtin_memset(key->outer_daddr, 0, 16);
	}
	return key->family ? 0 : -1;
}

#endif
