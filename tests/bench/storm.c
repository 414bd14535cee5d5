/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UDP datagrams with DF as fast as one core can:
 *
 *	storm ADDRESS OCTETS FLOWS SECONDS
 *
 * Flows differ in their destination port. Prints how many were sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	static char payload[65536];
	struct sockaddr_in to[BATCH];
	struct mmsghdr messages[BATCH];
	struct sockaddr_in from = { .sin_family = AF_INET,
				    .sin_port = htons(2323) };
	struct iovec part = { .iov_base = payload };
	int fd, probe = IP_PMTUDISC_PROBE, flows, flow = 0, i, done;
	unsigned long sent = 0;
	double end;

	if (argc != 5)
		errx(2, "usage: storm ADDRESS OCTETS FLOWS SECONDS");
	part.iov_len = atoi(argv[2]);
	flows = atoi(argv[3]);
	if (part.iov_len > sizeof(payload) || flows < 1 || flows > 60000)
		errx(2, "OCTETS up to 65536, FLOWS from 1 to 60000");
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	/* DF on every packet, and what is learned from ICMP is ignored. */
	if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof(from)) ||
	    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof(probe)))
		err(1, "socket");
	memset(messages, 0, sizeof(messages));
	memset(to, 0, sizeof(to));
	for (i = 0; i < BATCH; i++) {
		to[i].sin_family = AF_INET;
		if (inet_pton(AF_INET, argv[1], &to[i].sin_addr) != 1)
			errx(2, "%s is not an IPv4 address", argv[1]);
		messages[i].msg_hdr.msg_name = &to[i];
		messages[i].msg_hdr.msg_namelen = sizeof(to[i]);
		messages[i].msg_hdr.msg_iov = &part;
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	end = now() + atof(argv[4]);
	do {
		for (i = 0; i < BATCH; i++) {
			to[i].sin_port = htons(1024 + flow);
			flow = (flow + 1) % flows;
		}
		done = sendmmsg(fd, messages, BATCH, 0);
		if (done > 0)
			sent += done;
	} while (now() < end);
	printf("%lu\n", sent);
	return 0;
}
