// SPDX-License-Identifier: MIT
// Everything of libnlmmap but the loopback kernel, which is in <nlmmap/testing.hpp>.
#pragma once

#include <nlmmap/linux/nlmmap.h>

#include <nlmmap/error.hpp>
#include <nlmmap/message.hpp>
#include <nlmmap/receiver.hpp>
#include <nlmmap/record.hpp>
#include <nlmmap/socket.hpp>
