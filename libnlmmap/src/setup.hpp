// SPDX-License-Identifier: MIT
// The requests that make a ring. Internal to the library.
#pragma once

#include <nlmmap/linux/nlmmap.h>

#include <cstddef>
#include <nlmmap/receiver.hpp>
#include <nlmmap/socket.hpp>
#include <string>

namespace nlmmap::detail {

[[nodiscard]] std::size_t page_bytes();

// A ring of the socket's own. Throws Error, as does everything here.
void request_own_ring(Socket& socket, const RingOptions& options, const std::string& operation);

// A ring under another family's socket; what the module says about it.
SocketInfo request_attached_ring(int fd, const RingOptions& options, const std::string& operation);

// What the module says about the ring under that socket.
[[nodiscard]] SocketInfo request_attached_info(int fd, const std::string& operation);

// Error EPROTO: what was mapped is no ring that we know, or not the one that was asked for.
void check_producer(const nlmmap_producer& producer, std::size_t ring_bytes,
                    const std::string& operation);

}  // namespace nlmmap::detail
