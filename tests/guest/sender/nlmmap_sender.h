/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * nlmmap_sender: a netlink family like any other, that says what tests want
 *
 * Nothing in it knows of rings. Requests go to its port 0 and are carried out in
 * the sender's context, in the network namespace of his socket; each is answered
 * when it is done. Anybody may listen, send and ask for a dump; the other
 * requests are for CAP_NET_ADMIN.
 */
#ifndef NLMMAP_SENDER_H
#define NLMMAP_SENDER_H

#include <linux/types.h>

/* Its netlink protocol. */
#define NLMMAP_SENDER_FAMILY	28

#define NLMMAP_SENDER_GROUPS	32

/* Senders of one request. */
#define NLMMAP_SENDER_MOST	8

enum {
	NLMMAP_SENDER_SEND	= 16,	/* struct nlmmap_sender_send */
	NLMMAP_SENDER_SENT	= 17,	/* the answer: struct nlmmap_sender_sent */
	NLMMAP_SENDER_DUMP	= 18,	/* struct nlmmap_sender_dump, NLM_F_DUMP */
	NLMMAP_SENDER_PART	= 19,	/* its messages: struct nlmmap_sender_part */
	NLMMAP_SENDER_ERROR	= 20,	/* struct nlmmap_sender_error */
	NLMMAP_SENDER_DATA	= 256,	/* + the number of the sender: what is sent */
};

/* From where the messages are sent. */
enum {
	NLMMAP_SENDER_PROCESS,		/* the requesting task */
	NLMMAP_SENDER_SOFTIRQS_OFF,	/* the same, all of them in one stretch with softirqs off */
	NLMMAP_SENDER_SOFTIRQ,		/* a tasklet, in softirq itself */
	NLMMAP_SENDER_CPUS,		/* kernel threads, bound to the CPUs in turn */
};

/**
 * struct nlmmap_sender_send - NLMMAP_SENDER_SEND
 * @portid: to this port, without blocking; 0: to the group
 * @group: 1 to NLMMAP_SENDER_GROUPS
 * @context: NLMMAP_SENDER_PROCESS and so on
 * @senders: how many send at once; more than one for CPUS alone
 * @bytes: of each message after its struct nlmsghdr, a multiple of 8
 * @nlmsg_flags: of each message
 * @first: number of the first message of each sender
 * @count: of each sender
 *
 * The payload's words are nlmmap_test_word(sender, number, index) of
 * nlmmap_test.h: the first one is the message's number.
 */
struct nlmmap_sender_send {
	__u32 portid;
	__u32 group;
	__u32 context;
	__u32 senders;
	__u32 bytes;
	__u32 nlmsg_flags;
	__u64 first;
	__u64 count;
};

/**
 * struct nlmmap_sender_sent - NLMMAP_SENDER_SENT
 * @accepted: calls that answered no error
 * @refused: calls that did
 * @error: the last error, an errno
 * @reserved: zero
 */
struct nlmmap_sender_sent {
	__u64 accepted;
	__u64 refused;
	__u32 error;
	__u32 reserved;
};

/* No message of the dump but the last says that it is a part of one. */
#define NLMMAP_SENDER_NO_MULTI		0x1
/* What is dumped changes after every part: NLM_F_DUMP_INTR. */
#define NLMMAP_SENDER_CHANGING		0x2
/* Every other part, the first one to begin with, is an empty datagram. */
#define NLMMAP_SENDER_EMPTY_PARTS	0x4
/* The part with the last message has the end in it, too. */
#define NLMMAP_SENDER_AT_ONCE		0x8

/**
 * struct nlmmap_sender_dump - NLMMAP_SENDER_DUMP
 * @messages: how many
 * @bytes: of each, the struct nlmsghdr not counted: 16 or more, a multiple of 8
 * @flags: NLMMAP_SENDER_NO_MULTI, NLMMAP_SENDER_CHANGING and so on
 * @min_dump_alloc: of the dump's buffers; 0: the core's default
 */
struct nlmmap_sender_dump {
	__u32 messages;
	__u32 bytes;
	__u32 flags;
	__u32 min_dump_alloc;
};

/**
 * struct nlmmap_sender_part - NLMMAP_SENDER_PART
 * @number: of the message, from 0
 * @uid: as whom it was made, in the initial user namespace
 * @capable: whether he has CAP_NET_ADMIN in the initial user namespace
 * @net_capable: the same by netlink_net_capable(), which asks for the opener too
 *
 * The words after that are nlmmap_test_word(0, number, index).
 */
struct nlmmap_sender_part {
	__u32 number;
	__u32 uid;
	__u32 capable;
	__u32 net_capable;
};

/**
 * struct nlmmap_sender_error - NLMMAP_SENDER_ERROR: netlink_set_err()
 * @group: of whose members
 * @error: an errno
 */
struct nlmmap_sender_error {
	__u32 group;
	__u32 error;
};

#endif /* NLMMAP_SENDER_H */
