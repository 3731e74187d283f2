// SPDX-License-Identifier: GPL-2.0
/*
 * The messages of the test producer.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <net/netlink.h>
#include <net/nlmmap.h>

#include "producer.h"

/* What is put into one datagram at most, whatever nlmmap says to it. */
#define PAYLOAD_MAX	(NLMMAP_TEST_DATAGRAM_MAX - NLMSG_HDRLEN)

int publisher_init(struct publisher *publisher, const struct test_group *group,
		   const struct nlmmap_test_publish *request, u32 producer)
{
	if (request->min_bytes > request->max_bytes ||
	    request->max_bytes > PAYLOAD_MAX)
		return -EINVAL;
	memset(publisher, 0, sizeof(*publisher));
	publisher->group = group;
	publisher->request = request;
	publisher->producer = producer;
	publisher->number = request->first_number;
	publisher->end = request->first_number + request->count;
	/* nlmmap_test_word() is written in whole words. */
	publisher->datagram = kvzalloc(NLMSG_HDRLEN + request->max_bytes + sizeof(u64),
				       GFP_KERNEL);
	return publisher->datagram ? 0 : -ENOMEM;
}

void publisher_free(struct publisher *publisher)
{
	kvfree(publisher->datagram);
}

void publisher_report(const struct publisher *publisher,
		      struct nlmmap_test_publish *request)
{
	request->accepted += publisher->accepted;
	request->delivered += publisher->delivered;
	request->refused += publisher->refused;
	request->skipped += publisher->skipped;
	if (publisher->error)
		request->error = publisher->error;
}

bool publisher_more(const struct publisher *publisher)
{
	return publisher->number < publisher->end &&
	       !READ_ONCE(publisher->group->stopping);
}

/* The words in a buffer of the producer's own: room for a whole last word. */
static void fill(const struct publisher *publisher, void *payload, u32 bytes)
{
	u64 word;
	u32 i;

	for (i = 0; i * sizeof(word) < bytes; i++) {
		word = nlmmap_test_word(publisher->producer, publisher->number, i);
		memcpy(payload + i * sizeof(word), &word, sizeof(word));
	}
}

static u16 type_of(const struct publisher *publisher)
{
	return NLMMAP_MSG_PRODUCER_MIN + publisher->producer;
}

static int publish_copied(struct publisher *publisher, u32 bytes)
{
	struct nlmsghdr *nlh = publisher->datagram;

	memset(nlh, 0, sizeof(*nlh));
	nlh->nlmsg_len = NLMSG_HDRLEN + bytes;
	nlh->nlmsg_type = type_of(publisher);
	fill(publisher, nlmsg_data(nlh), bytes);
	return nlmmap_publish(publisher->group->group, nlh, nlh->nlmsg_len);
}

/* Writes nothing outside what nlmmap_put_fixed() gave, to the byte. */
static void put_words(struct publisher *publisher, struct nlmmap_writer *writer,
		      u32 bytes)
{
	void *payload = nlmmap_put_fixed(writer, bytes);
	u64 word;
	u32 at;

	if (!payload)
		return;
	for (at = 0; at < bytes; at += sizeof(word)) {
		word = nlmmap_test_word(publisher->producer, publisher->number,
					at / sizeof(word));
		memcpy(payload + at, &word, min_t(u32, bytes - at, sizeof(word)));
	}
}

static void put_attributes(struct publisher *publisher,
			   struct nlmmap_writer *writer, u32 bytes)
{
	nlmmap_put_u64(writer, NLMMAP_TEST_A_NUMBER, publisher->number);
	nlmmap_put_u32(writer, NLMMAP_TEST_A_PRODUCER, publisher->producer);
	fill(publisher, publisher->datagram, bytes);
	nlmmap_put(writer, NLMMAP_TEST_A_WORDS, publisher->datagram, bytes);
}

/* What the payload takes in place, padding included. */
static u32 room_for(const struct publisher *publisher, u32 bytes)
{
	if (!(publisher->request->flags & NLMMAP_TEST_ATTRIBUTES))
		return NLMSG_ALIGN(bytes);
	return nla_total_size(sizeof(u64)) + nla_total_size(sizeof(u32)) +
	       nla_total_size(bytes);
}

/* -EAGAIN: nothing to begin. */
static int publish_in_place(struct publisher *publisher, u32 bytes)
{
	const struct nlmmap_test_publish *request = publisher->request;
	u32 room = request->room_bytes ?: room_for(publisher, bytes);
	struct nlmmap_writer writer;

	if (!nlmmap_begin(publisher->group->group, &writer, type_of(publisher),
			  NLMSG_HDRLEN + room))
		return -EAGAIN;
	if (request->flags & NLMMAP_TEST_ATTRIBUTES)
		put_attributes(publisher, &writer, bytes);
	else
		put_words(publisher, &writer, bytes);
	return nlmmap_end(&writer);
}

/* Publishes the next messages, as many as there are; sleeps nowhere. */
void publish_some(struct publisher *publisher, u32 messages)
{
	const struct nlmmap_test_publish *request = publisher->request;
	u32 bytes;
	int result;

	for (; messages && publisher_more(publisher); messages--) {
		bytes = nlmmap_test_bytes(publisher->producer, publisher->number,
					  request->min_bytes, request->max_bytes);
		if (!(request->flags & NLMMAP_TEST_IN_PLACE)) {
			result = publish_copied(publisher, bytes);
		} else {
			result = publish_in_place(publisher, bytes);
			if (result == -EAGAIN) {
				publisher->skipped++;
				publisher->number++;
				continue;
			}
		}
		publisher->number++;
		if (result < 0) {
			publisher->refused++;
			publisher->error = result;
		} else {
			publisher->accepted++;
			publisher->delivered += result;
		}
	}
}
