// SPDX-License-Identifier: MIT
// The requests that make a ring. Internal to the library.
#pragma once

#include <nlmmap/linux/nlmmap.h>

#include <cstddef>
#include <cstdint>
#include <nlmmap/detail/ring.hpp>
#include <nlmmap/error.hpp>
#include <nlmmap/receiver.hpp>
#include <nlmmap/socket.hpp>
#include <string>

#include "mapping.hpp"

namespace nlmmap::detail {

// A ring of the socket's own. Throws Error, as does everything here.
void request_own_ring(Socket& socket, const RingOptions& options, const std::string& operation);

// Why a ring cannot be mapped, of what Mapping's functions answered, in words of its own.
[[nodiscard]] Error mapping_error(int errnum, const std::string& operation, std::size_t ring_bytes);

// A ring under another family's socket, mapped; what the module says about it. `features` are the
// NLMMAP_FEATURE_* without which it were of no use. An attach cannot be taken back, so everything
// that can be refused is asked for before; see Mapping::map() for what is left.
SocketInfo attach_ring(int fd, const RingOptions& options, std::uint64_t features, Mapping& mapping,
                       const std::string& operation);

// The ring that is under that socket already, mapped. Error ENODEV: there is none.
SocketInfo adopt_ring(int fd, std::uint64_t features, Mapping& mapping,
                      const std::string& operation);

// Error EPROTO: what was mapped is no ring that we know, or not the one that was asked for.
void check_producer(const nlmmap_producer& producer, std::size_t ring_bytes,
                    const std::string& operation);

// The number of the record before the one at `position`, where somebody goes on who did not read
// what was before; `newest` is what the module said before the ring was mapped.
[[nodiscard]] std::uint64_t seq_before(const Pages& pages, std::size_t data_bytes,
                                       std::uint64_t position, std::uint64_t newest);

}  // namespace nlmmap::detail
