/* SPDX-License-Identifier: MIT */
/*
 * A C program on the installed files alone: asks rtnetlink for the interfaces and
 * reads the answers by nlmmap_recvmsg(), with a ring where the module is loaded
 * and without where it is not; `listener ring` must get one. Ends with 0 if all
 * is as nlmmap.h says.
 */
#include <errno.h>
#include <linux/if_addr.h>
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

/* Joins a group, and hears by the ring that lo gets an address and loses it. */
static int listen_in_place(int fd)
{
	struct {
		struct nlmsghdr header;
		struct ifaddrmsg body;
		struct rtattr attribute;
		unsigned char address[4];
	} request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = RTM_NEWADDR,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE,
		},
		.body = {
			.ifa_family = AF_INET,
			.ifa_prefixlen = 32,
			.ifa_index = 1,
		},
		.attribute = {
			.rta_len = RTA_LENGTH(4),
			.rta_type = IFA_LOCAL,
		},
		.address = { 127, 9, 8, 7 },
	};
	const int group = RTNLGRP_IPV4_IFADDR;
	const struct nlmsghdr *header;
	struct nlmmap_datagram datagram;

	CHECK(nlmmap_setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group,
				sizeof(group)) == 0);
	CHECK(send(fd, &request, sizeof(request), 0) == (ssize_t)sizeof(request));
	CHECK(nlmmap_next(fd, &datagram) == 1);
	header = datagram.data;
	CHECK(NLMSG_OK(header, datagram.bytes) && header->nlmsg_type == RTM_NEWADDR);
	CHECK(datagram.group == RTNLGRP_IPV4_IFADDR && datagram.portid == 0);
	CHECK(datagram.lost_before == 0 && datagram.error == 0);
	nlmmap_release(fd);
	request.header.nlmsg_type = RTM_DELADDR;
	CHECK(send(fd, &request, sizeof(request), 0) == (ssize_t)sizeof(request));
	CHECK(nlmmap_recv(fd, buffer, sizeof(buffer), 0) > 0);
	header = (const struct nlmsghdr *)(const void *)buffer;
	CHECK(header->nlmsg_type == RTM_DELADDR);
	CHECK(nlmmap_setsockopt(fd, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &group,
				sizeof(group)) == 0);
	return 0;
}

int main(int argc, char **argv)
{
	const int needs_ring = argc > 1 && strcmp(argv[1], "ring") == 0;
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
		CHECK(recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) == -1 && errno == EBUSY);
		CHECK(listen_in_place(fd) == 0);
		printf("with a ring\n");
	} else {
		CHECK(!needs_ring);
		CHECK(errno == EPROTONOSUPPORT || errno == EPERM);
		printf("without a ring: %s\n", nlmmap_error());
	}
	CHECK(count_interfaces(fd) > 0);
	CHECK(nlmmap_recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) == -1 && errno == EAGAIN);
	CHECK(nlmmap_close(fd) == 0);
	CHECK(nlmmap_recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) == -1 && errno == EBADF);
	return 0;
}
