/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The layout of everything that passes from the kernel side to user space.
 * src/pmtutrace/layout.py reads this file: keep to fixed-width members, one a
 * line, write padding out, and assert every size.
 *
 * Addresses are 16 octets, IPv4 mapped (RFC 4291, 2.5.5.2). Names say the byte
 * order: be_* is as on the wire, all else is the host's.
 */
#ifndef PMTUTRACE_EVENTS_H
#define PMTUTRACE_EVENTS_H

enum verdict {
	VERDICT_NONE = 0,
	VERDICT_TOLD = 1,
	VERDICT_SUPPRESSED = 2,
	VERDICT_LOST = 3,
	VERDICT_NEVER_ATTEMPTED = 4,
	VERDICT_LOCAL = 5,
};

enum cause {
	CAUSE_NONE = 0,
	CAUSE_NO_ROUTE_ON_SKB = 1,
	CAUSE_NO_DEVICE = 2,
	CAUSE_BAD_HEADER = 3,
	CAUSE_NOT_FOR_THIS_HOST = 4,
	CAUSE_BROADCAST_OR_MULTICAST = 5,
	CAUSE_NON_FIRST_FRAGMENT = 6,
	CAUSE_ICMP_ERROR_INSIDE = 7,
	CAUSE_RATE_LIMITED_GLOBAL = 8,
	CAUSE_RATE_LIMITED_HOST = 9,
	CAUSE_ICMP_SOCKET_BUSY = 10,
	CAUSE_OPTIONS_INVALID = 11,
	CAUSE_NO_ROUTE_BACK = 12,
	CAUSE_NO_ROOM = 13,
	CAUSE_APPEND_FAILED = 14,
	CAUSE_UNKNOWN = 15,
};

enum event_type {
	EVENT_DROP = 1,
	EVENT_ICMP_LOST = 2,
	EVENT_FRAGMENTED = 3,
	EVENT_ICMP_RECEIVED = 4,
	EVENT_PATH_MTU = 5,
};

/* What can be lost on the way, each counted under its own name. */
enum loss {
	LOSS_RING_FULL = 0,
	LOSS_COUNTERS_FULL = 1,
	LOSS_NEWS_FULL = 2,
	LOSS_NESTED = 3,
	LOSS_RECEIVED = 4,
};

/* has_ports */
enum ports {
	PORTS_SOURCE = 1,
	PORTS_DESTINATION = 2,
};

/* event.flags */
enum event_flag {
	FLAG_DF = 1,
	FLAG_COUNTED_TOLD = 2, /* the drop behind a lost message, until then */
};

/* Where netfilter dropped a message. */
enum news_hook {
	HOOK_NONE = 0, /* unknown */
	HOOK_OUTPUT = 1,
	HOOK_POSTROUTING = 2,
};

enum site_check {
	CHECK_NEWS = 0,
	CHECK_FORWARD4 = 1,
	CHECK_FORWARD6 = 2,
	CHECK_FRAGMENT4 = 3,
	CHECK_FRAGMENT6 = 4,
	CHECK_BRIDGE = 5,
	CHECK_ALWAYS = 6,
	CHECK_HEADER_INCLUDED = 7,
	CHECK_BRIDGE_FRAGMENT4 = 8,
	CHECK_RECEIVER = 9,
	CHECK_RELAY = 10,
	CHECK_PORT = 11,
};

/* What a counter counts: drops, or, without a verdict, outer packets that left
 * as fragments. All padding is zero: it is hashed. */
struct flow_key {
	__u32 netns;
	__u32 ifindex;
	__u32 tunnel_id;
	__u16 site;
	__u8 verdict;
	__u8 cause;
	__u8 family;
	__u8 proto;
	__u8 outer_family;
	__u8 outer_proto;
	__u16 be_sport;
	__u16 be_dport;
	__u16 be_outer_dport;
	__u8 has_ports;
	__u8 padding;
	__u32 maker_netns; /* the device that made the outer header */
	__u32 maker_ifindex;
	__u8 saddr[16];
	__u8 daddr[16];
	__u8 outer_saddr[16];
	__u8 outer_daddr[16];
};
_Static_assert(sizeof(struct flow_key) == 100, "flow_key");

/* Times are jiffies. streamed, window and in_window belong to the sampling of
 * events and are of one CPU each. What interrupts whoever counts on its CPU
 * has packets and octets of its own to add to. */
struct flow_count {
	__u64 packets;
	__u64 bytes;
	__u64 first;
	__u64 last;
	__u64 streamed;
	__u64 window;
	__u32 in_window;
	__u32 mtu;
	__u32 max_length;
	__u32 padding;
	__u64 nested_packets;
	__u64 nested_bytes;
};
_Static_assert(sizeof(struct flow_count) == 80, "flow_count");

/* What stands for a flow_key in the table of counters. */
struct digest {
	__u64 first;
	__u64 second;
};
_Static_assert(sizeof(struct digest) == 16, "digest");

/* The same of one CPU, which has a counter of its own. */
struct far_digest {
	struct digest digest;
	__u64 cpu;
};
_Static_assert(sizeof(struct far_digest) == 24, "far_digest");

/* A counter in the place that the upper bits of its digest's first half say,
 * the digest being zero where the place is free. */
struct near_count {
	struct digest digest;
	struct flow_count count;
};
_Static_assert(sizeof(struct near_count) == 96, "near_count");

/* Those of one CPU. */
struct near_counts {
	struct near_count place[1024];
};
_Static_assert(sizeof(struct near_counts) == 98304, "near_counts");

/* ts_ns is CLOCK_BOOTTIME; with jiffies it tells when counters were touched. */
struct event {
	__u64 ts_ns;
	__u64 jiffies;
	__u64 location;
	__u64 count;
	__u64 news_location; /* where the message to the sender was freed */
	__u32 news_reason;
	__u32 type;
	__u32 cpu;
	__u32 reason;
	__u32 length;
	__u32 mtu;
	__u32 gso;
	__u32 in_ifindex;
	__u16 flags;
	__u16 caplen;
	__u32 mark; /* of the packet, or of the socket where there is none */
	__u16 news_hook;
	__u16 padding;
	struct flow_key key;
	__u8 dev[16];
	__u8 indev[16];
	__u8 kind[16]; /* of dev */
	__u8 maker[16];
	__u8 maker_kind[16];
	__u8 packet[128];
};
_Static_assert(sizeof(struct event) == 392, "event");

/* A message that arrived, or a path MTU exception that was set. Of a message,
 * saddr and daddr are its own, and the octets are those of the packet that it
 * quotes; of an exception they are return addresses of the kernel's stack. */
struct path_event {
	__u64 ts_ns;
	__u64 left; /* jiffies until it expires */
	__u32 type;
	__u32 cpu;
	__u32 netns;
	__u32 ifindex;
	__u32 mtu;
	__u16 caplen; /* may say more than there is room for */
	__u8 family;
	__u8 gateway_family; /* 0 where there is none */
	__u8 locked;
	__u8 has_source; /* whether the exception hangs on its source */
	__u8 padding[6];
	__u8 saddr[16];
	__u8 daddr[16];
	__u8 gateway[16];
	__u8 dev[16];
	__u8 octets[128];
};
_Static_assert(sizeof(struct path_event) == 240, "path_event");

/* One contiguous piece of a kernel function in which packets are refused. */
struct site_range {
	__u64 start;
	__u64 end;
	__u16 site;  /* of IPv4 packets */
	__u16 site6; /* of IPv6 packets */
	__u8 check;
	__u8 silent;
	__u16 padding;
};
_Static_assert(sizeof(struct site_range) == 24, "site_range");

/* Sorted by start; unused entries at the end have start == ~0. */
struct site_table {
	struct site_range range[64];
};
_Static_assert(sizeof(struct site_table) == 1536, "site_table");

/* Written before anything is attached, and again as hooks take hold; the drop
 * hook is the last. After that only site_table changes. */
struct config {
	__u32 every;
	__u32 rate;
	__u32 filter_netns;
	__u32 attempt4;
	__u32 sent4;
	__u32 attempt6;
	__u32 sent6;
	__u32 site_other;
	__u32 site_tunnel_check;
	__u32 caplen;
	__u32 second; /* in jiffies */
	__u32 routes;
	__u32 site_table; /* how often it was written: the lowest bit says which */
	__u32 why; /* what makes the kernel give up a message is seen */
	/* Once everything is attached, messages are remembered; once all that
	 * was under way then has ended, drops are counted. */
	__u32 recording;
	__u32 counting;
	__u32 fragment4_size;
	__u32 fragment6_size;
	__u64 fragment4; /* where ip_do_fragment() begins */
	__u64 fragment6;
	__u8 factors[208]; /* 26 numbers, by chance: see digest_of() */
};
_Static_assert(sizeof(struct config) == 296, "config");

#endif
