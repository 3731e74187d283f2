// SPDX-License-Identifier: MIT
// Messages of the kernel's own netlink families in words: libnl's, where it knows them.
#pragma once

#include <nlmmap/message.hpp>

#include "tools/nlmmap/present.h"

struct nl_cache;

namespace nlmmap::tool {

class NetlinkDecoder final : public Decoder {
  public:
    // For rtnetlink this asks the kernel for the names of the links, so that addresses and routes
    // show them instead of numbers; messages about links then keep the names up to date.
    explicit NetlinkDecoder(int protocol);
    ~NetlinkDecoder() override;
    NetlinkDecoder(const NetlinkDecoder&) = delete;
    NetlinkDecoder& operator=(const NetlinkDecoder&) = delete;

    Decoded decode(const Message& message) override;

  private:
    int protocol_;
    nl_cache* links_ = nullptr;
};

}  // namespace nlmmap::tool
