/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * process_events: what the group "process_events" of nlmmap says
 *
 * process_events.ko publishes one message for every fork, exec and exit of a
 * task: a process or one of its threads. This header is included by the module
 * and by user space alike, and it is the manual of those messages.
 *
 * The group exists in the initial network namespace alone. It is private: who
 * joins needs CAP_NET_ADMIN there, because the messages tell about everybody's
 * processes.
 *
 * A message is struct nlmsghdr, no fixed header, and the attributes below; each
 * message has all the attributes that its type lists, in that order. nlmsg_pid
 * and nlmsg_seq are 0. A later version may append attributes: ignore those
 * that you do not know.
 *
 * Task numbers are those of the initial PID namespace, whatever namespace the
 * task or the reader lives in. A tid names a task; the tgid is what user space
 * calls the process: getpid() of all its threads, and the tid of the first.
 *
 * Order: a task's fork comes before its execs, and those before its exit. What
 * different tasks do at once, on different CPUs, comes in the order in which it
 * was published.
 *
 * PROCESS_EVENTS_MSG_FORK: there is a new task, which has not run yet.
 *     PROCESS_EVENTS_A_PARENT_TID   the task that forked
 *     PROCESS_EVENTS_A_PARENT_TGID
 *     PROCESS_EVENTS_A_TID          the new task
 *     PROCESS_EVENTS_A_TGID         equal to PARENT_TGID: a thread (CLONE_THREAD)
 *     PROCESS_EVENTS_A_COMM         the new task's, inherited
 *   The task that forked need not be the parent for getppid(): with
 *   CLONE_PARENT that is the forking task's own parent.
 *   Tasks that the kernel makes without forking in the usual way are not told
 *   here, though their exits are: threads of io_uring and of vhost.
 *
 * PROCESS_EVENTS_MSG_EXEC: a task executes another program.
 *     PROCESS_EVENTS_A_TID
 *     PROCESS_EVENTS_A_TGID
 *     PROCESS_EVENTS_A_OLD_TID      its tid before: another one where a thread
 *                                   other than the first called execve(), which
 *                                   takes over the number of the first
 *     PROCESS_EVENTS_A_FILENAME     as it was given to execve()
 *     PROCESS_EVENTS_A_COMM         the new one
 *
 * PROCESS_EVENTS_MSG_EXIT: a task ends. Its parent may not know it yet.
 *     PROCESS_EVENTS_A_TID
 *     PROCESS_EVENTS_A_TGID
 *     PROCESS_EVENTS_A_EXIT_CODE
 *     PROCESS_EVENTS_A_EXIT_SIGNAL
 *     PROCESS_EVENTS_A_COMM
 */
#ifndef _PROCESS_EVENTS_H
#define _PROCESS_EVENTS_H

#ifdef __KERNEL__
#include <uapi/linux/nlmmap.h>
#else
#include <nlmmap/linux/nlmmap.h>
#endif

#define PROCESS_EVENTS_GROUP		"process_events"

/* Bytes of the strings, the terminating NUL included; what is longer is cut. */
#define PROCESS_EVENTS_COMM_BYTES	16
#define PROCESS_EVENTS_FILENAME_BYTES	256

/* Message types. */
enum {
	PROCESS_EVENTS_MSG_FORK	= NLMMAP_MSG_PRODUCER_MIN,
	PROCESS_EVENTS_MSG_EXEC,
	PROCESS_EVENTS_MSG_EXIT,
};

/* Attributes. All integers in host byte order. */
enum {
	PROCESS_EVENTS_A_UNSPEC,
	PROCESS_EVENTS_A_PAD,

	PROCESS_EVENTS_A_PARENT_TID,	/* u32: task number */
	PROCESS_EVENTS_A_PARENT_TGID,	/* u32: task number */
	PROCESS_EVENTS_A_TID,		/* u32: task number */
	PROCESS_EVENTS_A_TGID,		/* u32: task number */
	PROCESS_EVENTS_A_OLD_TID,	/* u32: task number */
	PROCESS_EVENTS_A_COMM,		/* string, at most
					 * PROCESS_EVENTS_COMM_BYTES
					 */
	PROCESS_EVENTS_A_FILENAME,	/* string, at most
					 * PROCESS_EVENTS_FILENAME_BYTES
					 */
	PROCESS_EVENTS_A_EXIT_CODE,	/* u32: as wait(2) tells it, for
					 * WIFEXITED() and the like
					 */
	PROCESS_EVENTS_A_EXIT_SIGNAL,	/* s32: the signal that the parent
					 * gets, as given to clone(2); SIGCHLD
					 * mostly; -1: none, it is a thread
					 */

	__PROCESS_EVENTS_A_MAX
};

#define PROCESS_EVENTS_A_MAX	(__PROCESS_EVENTS_A_MAX - 1)

#endif /* _PROCESS_EVENTS_H */
