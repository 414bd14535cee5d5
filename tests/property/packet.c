/* The parser of bpf/include/packet.h for this machine: reads memory by a
 * function that refuses what lies outside the packet, and says that it did. */
#include <linux/types.h>
#include <stdbool.h>
#include <string.h>

struct net_device;
struct net;
struct dst_entry;
struct sk_buff {
	unsigned long _skb_refdst;
};
struct net {
	struct {
		__u32 inum;
	} ns;
};
struct net_device {
	struct {
		struct net *net;
	} nd_net;
};

static const unsigned char *start, *end;
static int outside;

static long bpf_probe_read_kernel(void *to, __u32 size, const void *from)
{
	const unsigned char *at = from;

	if (at < start || at > end || size > end - at) {
		outside = 1;
		return -14;
	}
	memcpy(to, from, size);
	return 0;
}

#include "compat.h"
#include "events.h"
#include "packet.h"

/* Return 0, or -1 if no header could be read, or 1 if it read too far. */
int parse(const unsigned char *octets, __u32 length, struct flow_key *key)
{
	struct packet packet = { .head = octets, .at = 0, .end = length };
	struct upper upper = {};
	int failed;

	start = octets;
	end = octets + length;
	outside = 0;
	memset(key, 0, sizeof(*key));
	failed = parse_flow(&packet, fingerprint(&packet), &upper, key);
	return outside ? 1 : failed;
}
