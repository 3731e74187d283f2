// SPDX-License-Identifier: MIT
//
// What a test and its attacker in another process say to each other.
#pragma once

#include <array>
#include <cstdint>

namespace hostile {

// Two ends of a line for numbers and descriptors. Made before the attacker is
// started, so both processes have both ends; each uses its own. Throws std::system_error.
class Channel {
  public:
    Channel();
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    ~Channel();
    int test() const { return ends_[0]; }
    int attacker() const { return ends_[1]; }

  private:
    std::array<int, 2> ends_{};
};

// Says a number, with a descriptor if there is one. Throws std::system_error.
void put(int end, std::uint64_t number, int descriptor = -1);

// Waits for the next one, a minute of patience() at most. Throws std::runtime_error if the other
// end says nothing.
std::uint64_t take(int end, int* descriptor = nullptr);

// Waits for the next one, as take(), for its descriptor. Throws std::runtime_error if it has none.
int take_descriptor(int end);

}  // namespace hostile
