/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * nlmmap_test: a producer that tests tell what to publish
 *
 * An open file of /dev/nlmmap_test owns the groups that it registered; closing
 * it unregisters them. Every request is an ioctl() and answers when all of it
 * is done, so a test that wants messages while it sleeps asks in a thread.
 *
 * What a message says follows from who published it and its number, so a
 * reader can check every byte of it: see nlmmap_test_word().
 */
#ifndef NLMMAP_TEST_H
#define NLMMAP_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define NLMMAP_TEST_DEVICE	"/dev/nlmmap_test"

/* Longer than a group's name may be, so that one that is too long can be tried. */
#define NLMMAP_TEST_NAME_BYTES	64

/* Producers of one request; the message type is 256 + the producer. */
#define NLMMAP_TEST_PRODUCERS_MAX	64

/* Of one datagram in NLMMAP_TEST_DATAGRAM; more than nlmmap takes. */
#define NLMMAP_TEST_DATAGRAM_MAX	131072

/* From where the messages are published. */
enum {
	NLMMAP_TEST_PROCESS,	/* the ioctl()'s own task */
	NLMMAP_TEST_KTHREAD,	/* kernel threads, bound to the CPUs in turn */
	NLMMAP_TEST_SOFTIRQ,	/* a tasklet */
	NLMMAP_TEST_IRQ_WORK,	/* irq_work: an interrupt that a CPU sends itself */
	NLMMAP_TEST_IPI,	/* a function call interrupt on nlmmap_test_publish.cpu */
	NLMMAP_TEST_IRQS_OFF,	/* the ioctl()'s own task, interrupts off */
	NLMMAP_TEST_SCHED,	/* the sched_switch tracepoint: run queue locked */
	NLMMAP_TEST_NMI,	/* a non-maskable interrupt on .cpu */
	NLMMAP_TEST_CONTEXTS
};

/* nlmmap_begin(), nlmmap_put_fixed(), nlmmap_end() rather than nlmmap_publish() */
#define NLMMAP_TEST_IN_PLACE	0x1
/* In place, the payload as attributes: NLMMAP_TEST_A_*. */
#define NLMMAP_TEST_ATTRIBUTES	0x2

enum {
	NLMMAP_TEST_A_NUMBER	= 1,	/* u64 */
	NLMMAP_TEST_A_PRODUCER	= 2,	/* u32 */
	NLMMAP_TEST_A_WORDS	= 3,	/* what the payload is otherwise */
};

/**
 * struct nlmmap_test_group - NLMMAP_TEST_REGISTER
 * @name: as in struct nlmmap_group_config
 * @flags: NLMMAP_GROUP_*
 * @max_bytes: of a datagram
 * @id: answer: the group's number; it names the group in all other requests
 * @keep: not 0: the group outlives its network namespace
 *
 * Registers the group in the caller's network namespace. When that namespace
 * goes, so does the group, unless it is kept: then it is published to as before,
 * and nobody hears.
 */
struct nlmmap_test_group {
	char name[NLMMAP_TEST_NAME_BYTES];
	__u32 flags;
	__u32 max_bytes;
	__u32 id;
	__u32 keep;
};

/**
 * struct nlmmap_test_publish - NLMMAP_TEST_PUBLISH
 * @group: its number
 * @context: NLMMAP_TEST_PROCESS and so on
 * @flags: NLMMAP_TEST_IN_PLACE, NLMMAP_TEST_ATTRIBUTES
 * @first_producer: the first producer's identity
 * @producers: how many publish at once; more than one for KTHREAD alone
 * @min_bytes: the smallest payload
 * @max_bytes: the largest payload; in between sizes follow from the number
 * @room_bytes: what to ask nlmmap_begin() for, the header not counted; 0: just
 *	what is needed
 * @cpu: for KTHREAD with one producer, IPI and NMI
 * @burst: pause after so many messages; 0: never
 * @pause_us: how long; PROCESS and KTHREAD alone
 * @first_number: of each producer
 * @count: messages of each producer
 * @accepted: answer: calls that answered 0 or more
 * @delivered: answer: the sum of those answers
 * @refused: answer: calls that answered an error
 * @skipped: answer: nlmmap_begin() was false
 * @error: answer: the last error, negative
 * @reserved: zero
 *
 * ENOENT: no such group of this file. ECANCELED: the group was unregistered
 * meanwhile. EINTR: a signal came. The answers are filled in all the same.
 */
struct nlmmap_test_publish {
	__u32 group;
	__u32 context;
	__u32 flags;
	__u32 first_producer;
	__u32 producers;
	__u32 min_bytes;
	__u32 max_bytes;
	__u32 room_bytes;
	__u32 cpu;
	__u32 burst;
	__u32 pause_us;
	__s32 error;
	__u64 first_number;
	__u64 count;
	__u64 accepted;
	__u64 delivered;
	__u64 refused;
	__u64 skipped;
};

/**
 * struct nlmmap_test_datagram - NLMMAP_TEST_DATAGRAM: publish these very bytes
 * @group: its number
 * @len: bytes of the datagram
 * @bytes: address of the datagram
 *
 * Answers what nlmmap_publish() answers.
 */
struct nlmmap_test_datagram {
	__u32 group;
	__u32 len;
	__u64 bytes;
};

#define NLMMAP_TEST_REGISTER	_IOWR('N', 1, struct nlmmap_test_group)
#define NLMMAP_TEST_UNREGISTER	_IO('N', 2)	/* the number as argument */
#define NLMMAP_TEST_LISTENERS	_IO('N', 3)	/* answers 0 or 1 */
#define NLMMAP_TEST_PUBLISH	_IOWR('N', 4, struct nlmmap_test_publish)
#define NLMMAP_TEST_DATAGRAM	_IOW('N', 5, struct nlmmap_test_datagram)

/* Word @index of the payload of message @number of @producer. */
static inline __u64 nlmmap_test_word(__u32 producer, __u64 number, __u32 index)
{
	if (!index)
		return number;
	return (number + 1) * 0x9e3779b97f4a7c15ULL +
	       producer * 0xc2b2ae3d27d4eb4fULL + index * 0x165667b19e3779f9ULL;
}

/* Bytes of the payload of message @number of @producer. */
static inline __u32 nlmmap_test_bytes(__u32 producer, __u64 number,
				      __u32 min_bytes, __u32 max_bytes)
{
	__u64 mixed = nlmmap_test_word(producer, number, 0x5eed);

	return min_bytes + (__u32)((mixed >> 32) % (max_bytes - min_bytes + 1));
}

#endif /* NLMMAP_TEST_H */
