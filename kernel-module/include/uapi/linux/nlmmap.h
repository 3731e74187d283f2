/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * nlmmap: netlink messages in memory that user space maps
 *
 * This header is the whole contract between the kernel and user space, and its
 * manual. It has four parts: the rings as they are mapped, the records in them,
 * sleeping and waking, and the requests that set everything up.
 *
 * What is kept
 * ============
 * NLMMAP_ABI_VERSION is 0: the contract may still change. From version 1 on,
 * every offset, value and meaning below is kept for good. New things come with
 * a bit in NLMMAP_A_FEATURES, in words that are zero today, or with attributes
 * that an older kernel refuses with a sentence. A reader ignores record flags
 * and attributes in answers that it does not know.
 *
 * The ring
 * ========
 * A socket's RX ring is kernel memory that the kernel produces records into
 * and user space consumes from. In the file of the socket it lies at offset 0:
 *
 *   offset                 length         user's rights   what
 *   0                      one page       read, write     struct nlmmap_consumer
 *   one page               one page       read            struct nlmmap_producer
 *   two pages              data_bytes     read            records
 *   two pages + data_bytes data_bytes     read            the same pages again
 *
 * so exactly two mmap() calls map it, one for each set of rights: one page at
 * offset 0, and one page + 2 * data_bytes at offset one page. The data pages
 * are mapped twice in a row, so that no record is ever split.
 *
 * data_bytes is a power of two, from one page to the module's parameter
 * max_ring_bytes (64 MiB by default).
 *
 * A position is a count of bytes since the ring was made; the byte at position
 * p lies at data + (p & (data_bytes - 1)). Positions never wrap in practice.
 *
 * mmap() answers:
 *   ENODEV  the socket has no ring yet: send NLMMAP_MSG_SETUP first
 *   EINVAL  not MAP_SHARED, or an offset or length other than the two above
 *   EPERM   write where only reading is allowed, or exec anywhere; mprotect()
 *           cannot add those rights later (it answers EACCES)
 *   EAGAIN, ENOMEM  as for any mapping
 * A mapping holds the socket open: unmap before or after close(), but the
 * socket goes on receiving until both are done.
 *
 * Records
 * =======
 * A record is struct nlmmap_record, then the optional fields that SETUP asked
 * for, then one netlink datagram: one or more messages with struct nlmsghdr.
 * It begins at a multiple of 8 and takes (header_bytes + len) rounded up to a
 * multiple of 8; the padding is zero. header_bytes is in the producer's page:
 * use it, never sizeof(struct nlmmap_record).
 *
 * Reading, by one thread at a time:
 *   1. load producer.position with acquire semantics;
 *   2. read the records from your own position up to it, in place;
 *   3. store your position to consumer.position with release semantics. That
 *      gives the space back; what lies before it must not be touched again.
 * The kernel keeps the last position that it accepted and takes only steps
 * forward, never beyond what it produced. A reader that stores anything else
 * loses its own messages and nobody else's; forged positions are counted.
 *
 * Loss
 * ====
 * A record that finds no room is dropped, the newest first, and nothing else
 * is. seq counts every record that was meant for this ring, from 1, the lost
 * ones included: where it jumps by k + 1, exactly k were lost, and the record
 * carries NLMMAP_RECORD_LOST. producer.lost is the sum of all losses up to
 * now; a loss after which no record came yet shows there alone.
 *
 * Sleeping
 * ========
 * Ring data is EPOLLIN | EPOLLRDBAND; the socket's ordinary queue (answers to
 * requests) is EPOLLIN | EPOLLRDNORM. poll() either finds the ring readable or
 * arms it: the publisher whose record reaches consumer.watermark bytes waiting
 * (at least 1, at most data_bytes / 2, read when poll() arms) wakes everybody
 * who sleeps on the socket, once. While nobody armed it, publishing wakes
 * nobody. A loss wakes too, whatever the watermark, and the ring is readable
 * until the reader's position moves or consumer.lost_seen says producer.lost;
 * a notice that a group is gone wakes, and is readable, likewise.
 *
 * poll(), select(), level-triggered epoll and aio poll need nothing else. Who
 * waits edge-triggered (EPOLLET, io_uring's multishot poll) must arm by one
 * poll() with a timeout of 0 after the ring was found empty and before each
 * sleep, and read again if that finds the ring readable. A reader whose wait
 * timed out looks at the ring before it sleeps again: fewer bytes than the
 * watermark may wait there.
 *
 * Requests
 * ========
 * Ordinary netlink requests to port 0 on a socket of the family, attributes
 * right after struct nlmsghdr. The family's number is in
 * /sys/module/nlmmap/parameters/family. Attributes are validated strictly: an
 * unknown one, or one of a wrong length, is EINVAL (a name that is too long,
 * ERANGE). Every error comes with a sentence for people (set NETLINK_EXT_ACK).
 * A message that is truncated or whose nlmsg_len is wrong is EBADMSG. An
 * unknown type is EOPNOTSUPP. As everywhere in netlink, what lacks
 * NLM_F_REQUEST or has a type under 16 is passed over.
 *
 * NLMMAP_MSG_SETUP: gives the sending socket its RX ring. Allocates, may
 *   sleep. Once per socket, before any thread waits on it: one that went to
 *   sleep just then may not have armed the ring.
 *     NLMMAP_A_RX_BYTES   u32, bytes of data, required
 *     NLMMAP_A_FLAGS      u32, NLMMAP_SETUP_*, default 0
 *   Answer: NLMMAP_MSG_SOCKET.
 *   EINVAL      no size, zero, not a power of two, or less than a page
 *   ERANGE      more than max_ring_bytes, or than 1 GiB
 *   EOPNOTSUPP  an unknown bit in NLMMAP_A_FLAGS, or the sender is no socket
 *               of user space
 *   EBUSY       this socket has an RX ring already
 *   ENOMEM      the ring would take its user over RLIMIT_MEMLOCK (who has
 *               CAP_IPC_LOCK is exempt), or there is no memory
 *
 * NLMMAP_MSG_ATTACH: gives another netlink socket, of any other family, an RX
 *   ring; see "A ring under any netlink socket". Once per socket; it ends with
 *   the socket. Allocates, may sleep: for tenths of a second if anybody else uses
 *   the socket or holds a descriptor of it, because who sleeps in recvmsg() there
 *   is woken (EBUSY); longer, some seconds, if thousands do.
 *     NLMMAP_A_FD        u32, the sender's descriptor of that socket, required
 *     NLMMAP_A_RX_BYTES, NLMMAP_A_FLAGS  as for NLMMAP_MSG_SETUP
 *   Answer: NLMMAP_MSG_SOCKET of that socket. Errors: NLMMAP_MSG_SETUP's, and
 *   EBADF         no such descriptor
 *   ENOTSOCK, EAFNOSUPPORT  it is no socket, or no netlink socket
 *   EINVAL        it is a socket of this family, or no descriptor was given
 *   EPERM         the sender lacks CAP_NET_ADMIN in the initial user namespace
 *                 (unless the module's parameter attach_unprivileged is set), or
 *                 a security module forbids receiving on that socket
 *   EACCES        a security module forbids it
 *
 * NLMMAP_MSG_JOIN: the group's messages go to the socket's ring from now on.
 *     NLMMAP_A_GROUP_NAME  string, or
 *     NLMMAP_A_GROUP_ID    u32; exactly one of the two
 *   ENOENT    no such group in this network namespace
 *   EPERM     the group is not public and the sender lacks CAP_NET_ADMIN in
 *             the network namespace, or the opener of the socket does and the
 *             message was sent without an address
 *   ENODEV    the socket has no ring: NLMMAP_MSG_SETUP first
 *   EMSGSIZE  the ring is too small for the group's messages: it takes at
 *             least 4 * (the group's NLMMAP_A_MAX_BYTES)
 *   EALREADY  the socket is a member already
 *   ENOSPC    the group has max_members rings (a quarter of them are kept
 *             for CAP_NET_ADMIN; one user without has an eighth at most), or
 *             4 MiB / (the group's NLMMAP_A_MAX_BYTES) of them; or the socket
 *             has joined as many groups as its ring has room for notices
 *             (data_bytes / 256)
 *   EAGAIN    unread records stand where the room for the notice should be:
 *             read, then join
 *   ENOMEM    no memory
 *
 * NLMMAP_MSG_LEAVE: the reverse; attributes as for JOIN. What is in the ring
 *   stays there.
 *   ENOENT    no such group, or the socket is not a member
 *   ENODEV    the socket has no ring
 *   ENOMEM    no memory; the socket is still a member
 *
 * NLMMAP_MSG_SOCKET_GET: geometry, positions and counters.
 *   Without NLM_F_DUMP: of the sending socket, or of the one that NLMMAP_A_FD
 *   names (errors as for NLMMAP_MSG_ATTACH). ENODEV if it has no ring.
 *   With NLM_F_DUMP: of all sockets with rings in the network namespace, for
 *   CAP_NET_ADMIN there (EPERM). Answers: NLMMAP_MSG_SOCKET.
 *   EBUSY if a dump is under way on this socket.
 *
 * NLMMAP_MSG_GROUP_GET: one group (attributes and ENOENT as for JOIN), or with
 *   NLM_F_DUMP all groups of the network namespace. Anybody may ask.
 *   Answers: NLMMAP_MSG_GROUP. EBUSY as above.
 *
 * The core's own rules hold, too: a dump that is asked for while the socket's
 * receive buffer is full is ENOBUFS without a sentence, and a socket that
 * connect()ed to another port gets no answers.
 *
 * Without a ring
 * ==============
 * A plain socket of the family hears the same groups: bind(), then
 * setsockopt(NETLINK_ADD_MEMBERSHIP) with the group's number. It answers
 * ENOENT for a number that is no group of the network namespace, EPERM as JOIN
 * does, EINVAL for a number beyond 1024, and ENOMEM. ADD_MEMBERSHIP always
 * means plain delivery, also on a socket that has a ring. Plain listeners share
 * the core's rules: ENOBUFS when their buffer is full. Who goes on listening after
 * NLMMAP_MSG_GROUP_DELETED may one day hear another public group by that number.
 *
 * A ring under any netlink socket
 * ===============================
 * NLMMAP_MSG_ATTACH puts a ring under a socket of any netlink family, on that
 * socket's own descriptor: it is mapped there, polled there, and ends with it.
 * What arrives goes to the ring, in the order of arrival; what was queued before
 * comes first. Differences to a socket's own ring:
 *
 *   recvmsg() answers EBUSY. sendmsg(), socket options, memberships and filters
 *   are as ever. When sendmsg() returns, answers to it are in the ring if there
 *   is room.
 *   recvmsg() with MSG_PEEK, without MSG_TRUNC and with room for no byte looks as
 *   ever: it returns 0 when the ring is readable, else it sleeps until then, as
 *   long as O_NONBLOCK, MSG_DONTWAIT, SO_RCVTIMEO and signals let it (EAGAIN,
 *   EINTR; restarted where SA_RESTART says so). NLMMAP_FEATURE_WAIT tells.
 *   poll() tells the ring by EPOLLIN | EPOLLRDNORM.
 *   portid, nsid (-1: none) and group are the datagram's own.
 *   A dump goes on with the least rights of all who sent on the socket since it
 *   was attached, and with none if anybody but the one who attached it had a
 *   descriptor of it then, or was using it. Its parts are as large as a reader
 *   with room for 4096 bytes gets them, unless the family wants them larger.
 *   What a family lays out otherwise for 32-bit programs (xfrm) is laid out for
 *   the last who sent on the socket, or for who attached it.
 *   A full ring loses nothing at first: messages wait in the socket's receive
 *   buffer, and producer.state says NLMMAP_STATE_STALLED. A reader that found
 *   the ring empty and sees that calls poll() without a timeout, which starts it
 *   again; who sleeps in poll() does so anyway. Put a full fence between the
 *   store of your position and the look at the state.
 *   What overflows the receive buffer is lost, and counted as ever: seq jumps at
 *   the place of the loss. Under NETLINK_NO_ENOBUFS the place is not known:
 *   NLMMAP_RECORD_LOST_NEARBY. When room returns after a loss, a record with len 0
 *   and NLMMAP_RECORD_NO_DATAGRAM says so, if no other record does; it takes a
 *   number of seq.
 *   A source that says ENOBUFS and counts nothing (netlink_set_err() in the
 *   kernel) gives such a record with NLMMAP_RECORD_LOST_UNKNOWN, any other error
 *   of the socket one with NLMMAP_RECORD_ERROR.
 *   A datagram that takes more than data_bytes / 2 is lost, and counted.
 *   While a dump or another answer is under way, messages wait in the receive
 *   buffer: use a second socket for requests if bursts may come meanwhile.
 *
 * Message types below NLMMAP_MSG_PRODUCER_MIN are the family's own; producers
 * use the ones from there on, and group messages have nlmsg_seq 0.
 */
#ifndef _UAPI_LINUX_NLMMAP_H
#define _UAPI_LINUX_NLMMAP_H

#include <linux/types.h>

/* Kept for good from version 1 on. */
#define NLMMAP_ABI_VERSION	0

/* The family's number, unless the module was loaded with another. */
#define NETLINK_NLMMAP		30

/* Bytes of a group's name, the terminating NUL included. */
#define NLMMAP_GROUP_NAME_BYTES	32

/* The largest datagram that can be published, bytes. */
#define NLMMAP_MESSAGE_MAX	65536

/* The word that user space writes. One page, writable by user space. */
struct nlmmap_consumer {
	__u64	position;	/* everything before it is given back */
	__u32	watermark;	/* bytes that must wait before a sleeper is
				 * woken; 0 is 1; at most data_bytes / 2
				 */
	__u32	reserved;	/* zero */
	__u64	lost_seen;	/* the producer.lost that you have noticed */
};

/* The words that the kernel writes. One page, read-only to user space. */
struct nlmmap_producer {
	__u32	abi_version;	/* NLMMAP_ABI_VERSION */
	__u32	header_bytes;	/* of every record in this ring; multiple of 8 */
	__u64	data_bytes;	/* power of two */
	__u64	features;	/* NLMMAP_FEATURE_*: fields after each header */
	__u64	reserved[5];	/* zero */
	/* A cache line of its own. */
	__u64	position;	/* everything before it is published */
	__u64	lost;		/* records lost so far, an exact count */
	__u32	state;		/* NLMMAP_STATE_* */
	__u32	reserved2;	/* zero */
};

/* struct nlmmap_producer.state: messages wait for room, outside of the ring. */
#define NLMMAP_STATE_STALLED	(1 << 0)

/**
 * struct nlmmap_record - what stands before each datagram in a ring
 * @len: bytes of the datagram, neither this header nor padding
 * @group: number of the group; 0: sent to this socket alone
 * @flags: NLMMAP_RECORD_*
 * @portid: netlink port of the sender; 0: the kernel
 * @nsid: network namespace of the sender, as NETLINK_LISTEN_ALL_NSID tells it;
 *	-1: the reader's own
 * @seq: number of this record among all that were meant for this ring, from 1
 */
struct nlmmap_record {
	__u32	len;
	__u16	group;
	__u16	flags;
	__u32	portid;
	__s32	nsid;
	__u64	seq;
};

/* The datagram is exactly one well-formed message: nlmsg_len equals len. */
#define NLMMAP_RECORD_SINGLE	(1 << 0)
/* Records were lost right before this one; seq says how many. */
#define NLMMAP_RECORD_LOST	(1 << 1)
/* A notice of nlmmap itself (a type below NLMMAP_MSG_PRODUCER_MIN). */
#define NLMMAP_RECORD_NOTICE	(1 << 2)
/* Before this record the source lost messages that it did not count. */
#define NLMMAP_RECORD_LOST_UNKNOWN (1 << 3)
/* What seq and producer.lost count was lost about here, not right before. */
#define NLMMAP_RECORD_LOST_NEARBY (1 << 4)
/* No datagram: an __s32, the errno that recvmsg() would have failed with. */
#define NLMMAP_RECORD_ERROR	(1 << 5)
/* Stands for no datagram: it is there to tell a loss or an error. */
#define NLMMAP_RECORD_NO_DATAGRAM (1 << 6)

/*
 * NLMMAP_A_FLAGS of NLMMAP_MSG_SETUP, and the feature bit that says that the
 * kernel knows it. Optional fields follow the header in the order of their
 * bits.
 */
/* __u64: CLOCK_BOOTTIME when the record was published, nanoseconds. */
#define NLMMAP_SETUP_TIME	(1 << 0)
#define NLMMAP_FEATURE_TIME	(1 << 0)
/* struct nlmmap_credentials, as SCM_CREDENTIALS tells them; NLMMAP_MSG_ATTACH
 * alone.
 */
#define NLMMAP_SETUP_CREDENTIALS (1 << 1)
#define NLMMAP_FEATURE_CREDENTIALS (1 << 1)
/* The kernel knows NLMMAP_MSG_ATTACH. */
#define NLMMAP_FEATURE_ATTACH	(1 << 16)
/* recvmsg() waits for the ring of an attached socket, see above. */
#define NLMMAP_FEATURE_WAIT	(1 << 17)

/**
 * struct nlmmap_credentials - who sent a message
 * @pid: process; 0: the kernel
 * @uid: in the user namespace of who made the ring, as is @gid
 * @gid: likewise
 * @reserved: zero
 */
struct nlmmap_credentials {
	__u32	pid;
	__u32	uid;
	__u32	gid;
	__u32	reserved;
};

/* Message types. */
enum {
	/* requests */
	NLMMAP_MSG_SETUP	= 16,
	NLMMAP_MSG_JOIN		= 17,
	NLMMAP_MSG_LEAVE	= 18,
	NLMMAP_MSG_SOCKET_GET	= 19,
	NLMMAP_MSG_GROUP_GET	= 20,
	NLMMAP_MSG_ATTACH	= 21,

	/* answers and notices */
	NLMMAP_MSG_SOCKET	= 32,
	NLMMAP_MSG_GROUP	= 33,
	/*
	 * The group was deleted and says no more; NLMMAP_A_GROUP_ID. Every
	 * member gets it, plain or mapped; a ring keeps room for it.
	 */
	NLMMAP_MSG_GROUP_DELETED = 34,

	/* The first type that is a producer's to use. */
	NLMMAP_MSG_PRODUCER_MIN	= 256,
};

/* Attributes. All integers in host byte order. */
enum {
	NLMMAP_A_UNSPEC,
	NLMMAP_A_PAD,

	/* request and answer */
	NLMMAP_A_RX_BYTES,	/* u32: data_bytes of the RX ring */
	NLMMAP_A_FLAGS,		/* u32: NLMMAP_SETUP_* */
	NLMMAP_A_GROUP_NAME,	/* string, NLMMAP_GROUP_NAME_BYTES at most */
	NLMMAP_A_GROUP_ID,	/* u32: 1 to 1024; repeated in
				 * NLMMAP_MSG_SOCKET: the groups joined
				 */

	/* NLMMAP_MSG_SOCKET */
	NLMMAP_A_ABI_VERSION,	/* u32: NLMMAP_ABI_VERSION */
	NLMMAP_A_FEATURES,	/* u64: NLMMAP_FEATURE_* the kernel knows */
	NLMMAP_A_HEADER_BYTES,	/* u32: before each datagram in this ring */
	NLMMAP_A_PORTID,	/* u32: netlink port of the socket when it was
				 * set up; 0: it had none
				 */
	NLMMAP_A_INODE,		/* u64: as in /proc/PID/fd */
	NLMMAP_A_UID,		/* u32: who set the ring up and is charged, in
				 * the user namespace of who opened the socket
				 * that asks
				 */
	NLMMAP_A_PRODUCED,	/* u64: producer.position, bytes */
	NLMMAP_A_CONSUMED,	/* u64: the last position accepted, bytes */
	NLMMAP_A_SEQ,		/* u64: seq of the newest record or loss */
	NLMMAP_A_LOST,		/* u64: producer.lost, records */
	NLMMAP_A_HIGH_WATER,	/* u64: the most bytes that ever waited, rounded
				 * up to the next sixteenth of data_bytes
				 */
	NLMMAP_A_WAKEUPS,	/* u64: times that sleepers were woken */
	NLMMAP_A_FORGED,	/* u64: consumer positions not accepted */

	/* NLMMAP_MSG_GROUP */
	NLMMAP_A_GROUP_FLAGS,	/* u32: NLMMAP_GROUP_* */
	NLMMAP_A_MAX_BYTES,	/* u32: the group's largest datagram */
	NLMMAP_A_MEMBERS,	/* u32: rings that joined */
	NLMMAP_A_PLAIN,		/* flag: plain listeners are served, too */
	NLMMAP_A_PUBLISHED,	/* u64: datagrams published so far */

	/* attached sockets */
	NLMMAP_A_FD,		/* u32: descriptor of another netlink socket */
	NLMMAP_A_PROTOCOL,	/* u32: the socket's netlink protocol */

	__NLMMAP_A_MAX
};

#define NLMMAP_A_MAX	(__NLMMAP_A_MAX - 1)

/* NLMMAP_A_GROUP_FLAGS: anybody may join, not CAP_NET_ADMIN alone. */
#define NLMMAP_GROUP_PUBLIC	(1 << 0)

#endif /* _UAPI_LINUX_NLMMAP_H */
