// SPDX-License-Identifier: MIT
/*
 * A libnl program that must not miss what happens to the host's addresses: it
 * prints each change as it comes. Everything in it is libnl's, but for one line.
 *
 *	cc libnl_listener.c $(pkg-config --cflags --libs nlmmap libnl-3.0) -o libnl_listener
 *	./libnl_listener [COUNT]        ends after so many messages
 */
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <nlmmap/nlmmap.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned long messages;

static int on_message(struct nl_msg *message, void *unused)
{
	const struct nlmsghdr *header = nlmsg_hdr(message);

	(void)unused;
	messages++;
	printf("%s of interface %u\n",
	       header->nlmsg_type == RTM_NEWADDR ? "new address" : "an address less",
	       ((const struct ifaddrmsg *)nlmsg_data(header))->ifa_index);
	return NL_OK;
}

int main(int argc, char **argv)
{
	unsigned long wanted = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
	unsigned long losses = 0;
	struct nl_sock *socket = nl_socket_alloc();
	int err = socket ? nl_connect(socket, NETLINK_ROUTE) : -NLE_NOMEM;

	if (!err)
		err = nl_socket_add_memberships(socket, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
						RTNLGRP_NONE);
	if (err) {
		fprintf(stderr, "libnl_listener: %s\n", nl_geterror(err));
		return EXIT_FAILURE;
	}
	nl_socket_disable_seq_check(socket);
	nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, on_message, NULL);

	/* The one line: from here on libnl reads from a ring of 4 MiB. */
	err = nlmmap_nl_attach(socket, 4 << 20);
	if (err)
		fprintf(stderr, "libnl_listener: goes on without a ring: %s\n", nlmmap_error());
	fprintf(stderr, "listening\n");

	while (!wanted || messages < wanted) {
		err = nl_recvmsgs_default(socket);
		if (err == -NLE_NOMEM) {
			/* Here messages were lost; a daemon would ask for everything anew. */
			losses++;
		} else if (err < 0) {
			fprintf(stderr, "libnl_listener: %s\n", nl_geterror(err));
			return EXIT_FAILURE;
		}
	}
	fprintf(stderr, "%lu messages, messages were lost %lu times\n", messages, losses);
	nl_socket_free(socket);
	return EXIT_SUCCESS;
}
