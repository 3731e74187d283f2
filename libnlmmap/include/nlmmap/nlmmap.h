/* SPDX-License-Identifier: MIT */
/*
 * nlmmap for C: a ring under a netlink socket that a program has already
 *
 *	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
 *	bind(fd, ...);
 *	nlmmap_attach(fd, 1 << 20);                     one more line
 *	for (;;) {
 *		ssize_t bytes = nlmmap_recvmsg(fd, &msg, 0);    was recvmsg()
 *		...
 *	}
 *
 * From nlmmap_attach() on, what arrives at the socket goes into a ring of that
 * many bytes, mapped from the kernel, and nothing is lost while it has room.
 * recvmsg() itself answers EBUSY then, as do recv(), read() and what calls
 * them; sending, socket options, memberships, poll(), select() and epoll are as
 * ever. What was queued comes first.
 *
 * Functions that fail return -1 and set errno. Any thread may call any of them
 * on any descriptor at any time, but for nlmmap_next() and nlmmap_release().
 * Those that receive neither allocate nor lock, and may be called in a signal
 * handler; but the first call after fork(), and one that finds its descriptor
 * closed, take a lock.
 *
 * After fork() parent and child may both go on: each datagram is for who asks
 * first, as with recvmsg(). A program that was started by exec() and inherited
 * an attached descriptor takes it over by nlmmap_adopt(). Who has the descriptor
 * can write the page that says what was read, and so make other readers miss
 * messages or take for one what was none: pass it to whom you trust.
 */
#ifndef NLMMAP_NLMMAP_H
#define NLMMAP_NLMMAP_H

#include <nlmmap/linux/nlmmap.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct nl_sock;

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/**
 * nlmmap_attach - put a ring under a netlink socket
 * @netlink_fd: of any family but nlmmap's own; stays yours
 * @ring_bytes: of records that the ring holds: a power of two, from one page to
 *	the module's max_ring_bytes (64 MiB by default)
 *
 * Room for a burst is about 64 bytes a message and what the messages have.
 * Socket options may be set before, or after it by nlmmap_setsockopt(). A socket
 * is attached once; the ring ends with it. Attach before other threads receive:
 * those that sleep in recvmsg() are woken with EBUSY. Allocates, makes some system
 * calls.
 *
 * Return: 0, or -1 and errno; nlmmap_error() says more:
 *   EPERM            you lack CAP_NET_ADMIN, or a security module forbids
 *                    receiving there
 *   EPROTONOSUPPORT  the module nlmmap is not loaded
 *   EBADF, ENOTSOCK, EAFNOSUPPORT  no netlink socket
 *   EBUSY            it has a ring already; if another thread adopted the one that
 *                    was just being made, this succeeds
 *   EINVAL           no power of two, less than a page, or nlmmap's own family
 *   ERANGE           over the module's max_ring_bytes
 *   ENOMEM           over RLIMIT_MEMLOCK (the ring, and three pages more for a
 *                    moment; after mlockall() also twice the ring), over
 *                    RLIMIT_AS (twice the ring), or no memory
 *   EOPNOTSUPP       the module does not know how, or another module has
 *                    replaced the socket's operations
 *   EPROTO           the module speaks another version of the ABI
 *   EMFILE, ENFILE, EACCES  opening a socket for the request failed
 *
 * What can be refused is asked for before the socket is changed, so that it is as
 * it was. What is left: the kernel has no memory for the mapping's page tables, or
 * the process has as many mappings as it may (ENOMEM); a security module forbids
 * mapping (EACCES); another thread closed the descriptor meanwhile (EBADF). Then
 * the socket has its ring, and recvmsg() answers EBUSY: nlmmap_adopt() can still
 * map it, and nlmmap_close() ends it.
 */
int nlmmap_attach(int netlink_fd, size_t ring_bytes);

/**
 * nlmmap_adopt - go on with a ring that is there, and not read here
 * @netlink_fd: inherited over exec(), or received by SCM_RIGHTS; or attached by
 *	another thread right when this process was forked, or by nlmmap_attach(),
 *	which failed after all
 *
 * Begins where the other reader is; either may read. Credentials are told as
 * user and group 65534 but for the kernel's, if the other did not ask for them.
 * Allocates, makes some system calls.
 *
 * Return: 0, or -1 and errno: ENODEV: it has no ring; EBUSY: this process has
 * it already; and those of nlmmap_attach().
 */
int nlmmap_adopt(int netlink_fd);

/**
 * nlmmap_is_attached - does this process read that descriptor from a ring?
 * @fd: any number
 *
 * No system call.
 *
 * Return: 1 or 0.
 */
int nlmmap_is_attached(int fd);

/**
 * nlmmap_error - why the last function failed that makes requests
 *
 * Of nlmmap_attach(), nlmmap_adopt() and nlmmap_nl_attach() in this thread: what
 * was tried, errno's text, the kernel's sentence and what to do, in one line.
 *
 * Return: the line, valid until the thread calls one of these again; "" if none
 * failed.
 */
const char *nlmmap_error(void);

/**
 * nlmmap_recvmsg - recvmsg() on an attached descriptor
 * @fd: attached; on any other descriptor this is recvmsg() itself
 * @msg: as for recvmsg()
 * @flags: as for recvmsg()
 *
 * All that recvmsg() does with a netlink socket: sockaddr_nl, MSG_PEEK,
 * MSG_TRUNC, MSG_DONTWAIT, O_NONBLOCK, SO_RCVTIMEO, several iovecs, and the
 * control messages SCM_CREDENTIALS, NETLINK_PKTINFO and NETLINK_LISTEN_ALL_NSID,
 * cut short with MSG_CTRUNC as there. No system call while the ring has records;
 * one copy.
 *
 * Differences:
 *   ENOBUFS comes where messages were lost, once, after all that arrived before
 *   them; recvmsg() says it at once and hides what is still queued. Other errors
 *   of the socket come at their place, likewise.
 *   A pointer to memory that is not there is a SIGSEGV, not EFAULT.
 *
 * Return: as recvmsg(): bytes, 0 for an empty datagram, or -1 and errno:
 *   EAGAIN       nothing waits (MSG_DONTWAIT, O_NONBLOCK), or not until SO_RCVTIMEO
 *   ENOBUFS      messages were lost here, unless NETLINK_NO_ENOBUFS is set
 *   EINTR        a signal handler ran while waiting
 *   EMSGSIZE     more than 1024 iovecs
 *   EINVAL       a negative length, or MSG_CMSG_COMPAT
 *   EOPNOTSUPP   MSG_OOB
 *   EIO          another program that has the descriptor spoilt the ring's page
 *   and any error of the socket itself
 */
ssize_t nlmmap_recvmsg(int fd, struct msghdr *msg, int flags);

/* nlmmap_recv(), nlmmap_recvfrom(), nlmmap_recvmmsg(): likewise recv() and so on. */
ssize_t nlmmap_recv(int fd, void *buffer, size_t bytes, int flags);
ssize_t nlmmap_recvfrom(int fd, void *buffer, size_t bytes, int flags,
			struct sockaddr *address, socklen_t *address_bytes);
struct mmsghdr; /* of <sys/socket.h>, for who defines _GNU_SOURCE */
struct timespec;
int nlmmap_recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
		    struct timespec *timeout);

/**
 * nlmmap_setsockopt - setsockopt() that receiving takes notice of
 * @fd: any descriptor
 *
 * SO_PASSCRED, NETLINK_PKTINFO, NETLINK_LISTEN_ALL_NSID and NETLINK_NO_ENOBUFS
 * decide what nlmmap_recvmsg() gives, which does not ask the kernel for them
 * each time. Other options may be set by either function.
 *
 * Return: as setsockopt().
 */
int nlmmap_setsockopt(int fd, int level, int option, const void *value, socklen_t bytes);

/**
 * nlmmap_close - unmap the ring, if there is one, and close the descriptor
 * @fd: any descriptor
 *
 * Instead of close(): a mapping holds the socket, which would go on listening,
 * and the number may soon be another file's. A number that was closed without
 * it is noticed where its ring is found empty, and by the next nlmmap_attach().
 *
 * Return: as close().
 */
int nlmmap_close(int fd);

/* struct nlmmap_datagram.flags */
/* The source lost messages before this one that nobody counted. */
#define NLMMAP_DATAGRAM_LOST_UNKNOWN	(1U << 0)
/* lost_before was lost about here, not right before (NETLINK_NO_ENOBUFS). */
#define NLMMAP_DATAGRAM_LOST_NEARBY	(1U << 1)
/* It stands for what was lost, or for an error: there is no datagram. */
#define NLMMAP_DATAGRAM_NONE		(1U << 2)

/**
 * struct nlmmap_datagram - one datagram in place
 * @data: netlink messages, for NLMSG_OK() and NLMSG_NEXT(); aligned to 8
 * @bytes: of @data
 * @seq: its number among all that were meant for this ring, from 1; the lost
 *	ones count
 * @lost_before: how many were lost before this one
 * @credentials: of the sender, in the user namespace of who attached
 * @portid: netlink port of the sender; 0: the kernel
 * @group: number of the group that it was sent to; 0: to this socket alone
 * @nsid: network namespace of the sender, as NETLINK_LISTEN_ALL_NSID tells it;
 *	-1: the reader's own
 * @flags: NLMMAP_DATAGRAM_*
 * @error: an errno that recvmsg() would have failed with here; 0: none
 */
struct nlmmap_datagram {
	const void *data;
	size_t bytes;
	uint64_t seq;
	uint64_t lost_before;
	struct nlmmap_credentials credentials;
	uint32_t portid;
	uint32_t group;
	int32_t nsid;
	uint32_t flags;
	int error;
};

/**
 * nlmmap_next - the next datagram, in place
 * @fd: attached
 * @datagram: what to fill
 *
 * Does not wait, copies nothing and makes no system call. The memory is valid
 * until nlmmap_release(). When it answered 0, wait in poll() for POLLIN (who
 * waits edge-triggered calls poll() without a timeout first, and looks again).
 *
 * One thread at a time may read a descriptor in place, and nobody may receive
 * from it by nlmmap_recvmsg() between a nlmmap_next() and its nlmmap_release().
 *
 * Return: 1; 0: the ring is empty; -1 and errno: ENODEV: not attached; EIO: as
 * nlmmap_recvmsg().
 */
int nlmmap_next(int fd, struct nlmmap_datagram *datagram);

/**
 * nlmmap_release - give back all that nlmmap_next() answered so far
 * @fd: attached
 *
 * Makes room in the ring: call it now and then during a long burst, and before
 * waiting. No system call.
 */
void nlmmap_release(int fd);

/**
 * nlmmap_nl_attach - the same for a libnl socket
 * @socket: connected, by nl_connect()
 * @ring_bytes: as for nlmmap_attach()
 *
 * nl_recvmsgs(), nl_recvmsgs_default(), caches and the cache manager read from
 * the ring from then on, by nl_cb_overwrite_recv() on the socket's callbacks:
 * blocking, nl_socket_set_nonblocking(), peer addresses and credentials are as
 * ever; messages that were lost are -NLE_NOMEM, once, at their place. Set
 * nl_socket_set_passcred() before. Callbacks of your own that are handed to
 * nl_recvmsgs() bypass that, unless they were made by nl_cb_clone() afterwards:
 * then it fails with EBUSY (-NLE_BUSY).
 *
 * Return: 0, or the negative of a libnl error, for nl_geterror();
 * nlmmap_error() says more. errno is as for nlmmap_attach().
 */
int nlmmap_nl_attach(struct nl_sock *socket, size_t ring_bytes);

/**
 * nlmmap_nl_close - unmap the ring, if there is one, and nl_close()
 * @socket: connected
 *
 * Instead of nl_close(), and before nl_socket_free(), in a program that goes on:
 * see nlmmap_close(). The socket's port is taken until the ring is unmapped.
 */
void nlmmap_nl_close(struct nl_sock *socket);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif /* NLMMAP_NLMMAP_H */
