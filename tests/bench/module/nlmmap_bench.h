/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * What the bench's kernel module and its guest program say to each other:
 * one ioctl on /dev/nlmmap_bench that publishes a batch and says what that
 * cost, and what the messages of a batch look like.
 */
#ifndef NLMMAP_BENCH_H
#define NLMMAP_BENCH_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Groups that the module registers; the second has plain members alone. */
#define NLMMAP_BENCH_GROUP		"bench"
#define NLMMAP_BENCH_PLAIN_GROUP	"bench-plain"

/* The group of the peers' family, whose number is a module parameter. */
#define NLMMAP_BENCH_PEER_GROUP		1

#define NLMMAP_BENCH_BATCH_MAX		256
#define NLMMAP_BENCH_DATAGRAM_MAX	4096
#define NLMMAP_BENCH_WAIT_MAX		64

/*
 * Message i of a batch, from 0, has nlmsg_type NLMMAP_BENCH_TYPE + i, all
 * other fields of its header 0 but nlmsg_len, and a body of 64-bit words:
 * word k is seed + k, and i << NLMMAP_BENCH_INDEX_SHIFT is added to word 0.
 */
#define NLMMAP_BENCH_TYPE		256
#define NLMMAP_BENCH_INDEX_SHIFT	16

/* How a batch is published. */
enum nlmmap_bench_path {
	NLMMAP_BENCH_COPY,	/* nlmmap_publish() to "bench" */
	NLMMAP_BENCH_INPLACE,	/* nlmmap_begin(), nlmmap_put_fixed() and
				 * nlmmap_end() to "bench"
				 */
	NLMMAP_BENCH_PLAIN,	/* nlmmap_publish() to "bench-plain", until the
				 * work item has served the sockets in wait_fds;
				 * to be called as SCHED_IDLE
				 */
	NLMMAP_BENCH_NETLINK,	/* nlmsg_multicast() in the peers' family */
};

/**
 * struct nlmmap_bench_run - one batch
 * @path: enum nlmmap_bench_path
 * @datagram_bytes: of each message: 16, 64, 256, 1024 or 4096
 * @batch: messages, 1 to NLMMAP_BENCH_BATCH_MAX
 * @wait_count: how many descriptors are at @wait_fds; 0 but for
 *	NLMMAP_BENCH_PLAIN
 * @seed: of the contents
 * @wait_fds: address of an array of s32: the plain members, whose queues are
 *	empty
 * @instructions: out: TSC difference over the publishing loop, less that of an
 *	empty measurement
 */
struct nlmmap_bench_run {
	__u32	path;
	__u32	datagram_bytes;
	__u32	batch;
	__u32	wait_count;
	__u64	seed;
	__u64	wait_fds;
	__u64	instructions;
};

/*
 * Errors: EINVAL for a field out of its range; EBADF, ENOTSOCK for @wait_fds;
 * ETIMEDOUT if the plain members never got everything; ENOBUFS if a message
 * found no reader or no room; what publishing answered.
 */
#define NLMMAP_BENCH_RUN _IOWR('b', 0, struct nlmmap_bench_run)

#endif /* NLMMAP_BENCH_H */
