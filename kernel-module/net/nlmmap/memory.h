/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The pages under a ring, and who is charged for them
 */
#ifndef _NLMMAP_MEMORY_H
#define _NLMMAP_MEMORY_H

#include <linux/types.h>

struct page;
struct user_struct;
struct vm_area_struct;

/**
 * struct nlmmap_memory - pages of one ring, mapped once into the kernel
 * @pages: consumer, producer, the data, and the data again
 * @page_count: of @pages, those that are there twice counted once
 * @data_bytes: of the data pages
 * @address: kernel mapping: consumer, producer, data, data again
 * @charged: whose locked memory the pages count as; NULL: nobody's
 * @charged_pages: how many
 */
struct nlmmap_memory {
	struct page **pages;
	u32 page_count;
	u32 data_bytes;
	void *address;
	struct user_struct *charged;
	u32 charged_pages;
};

/* Pages before the data: the consumer's and the producer's. */
#define NLMMAP_CONTROL_PAGES	2

int nlmmap_memory_charge(struct nlmmap_memory *memory, u32 data_bytes);
void nlmmap_memory_uncharge(struct nlmmap_memory *memory);
int nlmmap_memory_alloc(struct nlmmap_memory *memory, u32 data_bytes, gfp_t gfp);
void nlmmap_memory_free(struct nlmmap_memory *memory);
int nlmmap_memory_map(const struct nlmmap_memory *memory,
		      struct vm_area_struct *vma);
struct page *nlmmap_memory_page(const struct nlmmap_memory *memory,
				unsigned long index);

static inline void *nlmmap_memory_consumer(const struct nlmmap_memory *memory)
{
	return memory->address;
}

static inline void *nlmmap_memory_producer(const struct nlmmap_memory *memory)
{
	return memory->address + PAGE_SIZE;
}

static inline void *nlmmap_memory_data(const struct nlmmap_memory *memory)
{
	return memory->address + NLMMAP_CONTROL_PAGES * PAGE_SIZE;
}

#endif /* _NLMMAP_MEMORY_H */
