/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The test producer's parts: groups (main.c), messages (publish.c) and
 * the contexts they are published from (context.c).
 */
#ifndef NLMMAP_TEST_PRODUCER_H
#define NLMMAP_TEST_PRODUCER_H

#include <linux/list.h>
#include <linux/types.h>

#include "nlmmap_test.h"

struct file;
struct net;
struct nlmmap_group;

/**
 * struct test_group - a group and whose it is
 * @list: in the list of all groups
 * @file: who registered it
 * @net: where; not held. The group goes first, or this is NULL from then on
 * @keep: which of the two
 * @group: nlmmap's
 * @users: requests that publish to it
 * @stopping: publishers shall leave
 */
struct test_group {
	struct list_head list;
	struct file *file;
	struct net *net;
	struct nlmmap_group *group;
	unsigned int users;
	bool stopping;
	bool keep;
};

/**
 * struct publisher - one producer's way through a request
 * @group: where it publishes
 * @request: what; shared, read only
 * @producer: who it is
 * @number: of the next message
 * @end: number after the last message
 * @datagram: buffer for the largest message
 * @accepted: and the others: as in struct nlmmap_test_publish
 */
struct publisher {
	const struct test_group *group;
	const struct nlmmap_test_publish *request;
	u32 producer;
	u64 number;
	u64 end;
	void *datagram;
	u64 accepted;
	u64 delivered;
	u64 refused;
	u64 skipped;
	int error;
};

int publisher_init(struct publisher *publisher, const struct test_group *group,
		   const struct nlmmap_test_publish *request, u32 producer);
void publisher_free(struct publisher *publisher);
void publisher_report(const struct publisher *publisher,
		      struct nlmmap_test_publish *request);
bool publisher_more(const struct publisher *publisher);
void publish_some(struct publisher *publisher, u32 messages);

int publish_in_context(const struct test_group *group,
		       struct nlmmap_test_publish *request);
int context_init(void);
void context_exit(void);

#endif /* NLMMAP_TEST_PRODUCER_H */
