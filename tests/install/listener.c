/* SPDX-License-Identifier: MIT */
/*
 * A C program on the installed files alone: asks rtnetlink for the interfaces and
 * reads the answers by nlmmap_recvmsg(), with a ring where the module is loaded
 * and without where it is not. Ends with 0 if all is as nlmmap.h says.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <nlmmap/nlmmap.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define CHECK(condition)                                                        \
	do {                                                                    \
		if (!(condition)) {                                             \
			fprintf(stderr, "%d: %s: %s\n", __LINE__, #condition,   \
				strerror(errno));                               \
			return 1;                                               \
		}                                                               \
	} while (0)

static char buffer[65536];

/* The number of interfaces in the answers to a dump; -1: receiving failed. */
static int count_interfaces(int fd)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg body;
	} request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = RTM_GETLINK,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		},
	};
	int interfaces = 0;

	if (send(fd, &request, sizeof(request), 0) != (ssize_t)sizeof(request))
		return -1;
	for (;;) {
		struct iovec part = { .iov_base = buffer, .iov_len = sizeof(buffer) };
		struct sockaddr_nl from;
		struct msghdr message = {
			.msg_name = &from,
			.msg_namelen = sizeof(from),
			.msg_iov = &part,
			.msg_iovlen = 1,
		};
		const ssize_t bytes = nlmmap_recvmsg(fd, &message, 0);
		struct nlmsghdr *header = (struct nlmsghdr *)(void *)buffer;
		unsigned int left = (unsigned int)bytes;

		if (bytes < 0 || message.msg_namelen != sizeof(from) || from.nl_pid != 0)
			return -1;
		for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
			if (header->nlmsg_type == NLMSG_DONE)
				return interfaces;
			if (header->nlmsg_type == RTM_NEWLINK)
				interfaces++;
		}
	}
}

int main(void)
{
	struct nlmmap_datagram datagram;
	const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	CHECK(fd >= 0);
	CHECK(strcmp(nlmmap_error(), "") == 0);
	CHECK(nlmmap_is_attached(fd) == 0);
	CHECK(count_interfaces(fd) > 0);
	CHECK(nlmmap_next(fd, &datagram) == -1 && errno == ENODEV);

	CHECK(nlmmap_attach(-1, 1 << 16) == -1);
	CHECK(strlen(nlmmap_error()) > 0);
	if (nlmmap_attach(fd, 1 << 16) == 0) {
		CHECK(nlmmap_is_attached(fd) == 1);
		CHECK(nlmmap_next(fd, &datagram) == 0);
	} else {
		CHECK(errno == EPROTONOSUPPORT || errno == EPERM);
		printf("without a ring: %s\n", nlmmap_error());
	}
	CHECK(count_interfaces(fd) > 0);
	CHECK(nlmmap_recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) == -1 && errno == EAGAIN);
	CHECK(nlmmap_close(fd) == 0);
	CHECK(nlmmap_recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) == -1 && errno == EBADF);
	return 0;
}
