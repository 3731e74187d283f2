// SPDX-License-Identifier: MIT
//
// New inputs, from the grammar and from inputs that were worth keeping.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>

#include "tests/fuzz/control/program.h"

namespace fuzz {

class Mutator {
  public:
    explicit Mutator(std::uint64_t seed) : random_(seed) {}

    // From the grammar alone.
    Program generate();
    // A few changes to an input; `other` may lend some of its steps.
    Program mutate(Program program, const Program& other);

    std::size_t below(std::size_t bound) { return bound == 0 ? 0 : random_() % bound; }
    bool one_in(std::size_t count) { return below(count) == 0; }

  private:
    template <typename T, std::size_t Count>
    const T& any_of(const std::array<T, Count>& choices) {
        return choices[below(Count)];
    }
    std::uint64_t number();
    std::uint16_t flags();
    Bytes bytes(std::size_t most);
    Value value(std::uint16_t type);
    Attribute attribute(std::uint16_t type, int depth);
    Message message();
    Message proper_message();
    Step step();
    void prepare(Program& program);
    void prepare_attached(Program& program);
    void mutate_message(Message& message);
    void mutate_value(Attribute& attribute);
    void mutate_step(Step& step);

    std::mt19937_64 random_;
};

}  // namespace fuzz
