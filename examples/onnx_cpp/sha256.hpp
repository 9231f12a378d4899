// SHA-256 of bytes, as FIPS 180-4 defines it.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string>

namespace forecast {

// The first 32 bits of the fractions of roots of the first primes: its constants.
template <size_t N>
std::array<uint32_t, N> fractions_of_roots(long double (*root)(long double)) {
  std::array<uint32_t, N> bits{};
  size_t found = 0;
  for (int number = 2; found < N; ++number) {
    bool prime = true;
    for (int divisor = 2; divisor < number; ++divisor) prime = prime && number % divisor;
    long double whole;
    if (prime)
      bits[found++] = static_cast<uint32_t>(std::modf(root(number), &whole) * 4294967296.0L);
  }
  return bits;
}

inline uint32_t turned(uint32_t word, int right) { return word >> right | word << (32 - right); }

inline void take_block(std::array<uint32_t, 8>& hash, const unsigned char* block) {
  static const auto constant = fractions_of_roots<64>(std::cbrt);
  std::array<uint32_t, 64> word;
  for (int i = 0; i < 16; ++i, block += 4)
    word[i] = uint32_t{block[0]} << 24 | uint32_t{block[1]} << 16 | uint32_t{block[2]} << 8 |
              uint32_t{block[3]};
  for (int i = 16; i < 64; ++i) {
    const uint32_t far = word[i - 15], near = word[i - 2];
    word[i] = word[i - 16] + (turned(far, 7) ^ turned(far, 18) ^ far >> 3) + word[i - 7] +
              (turned(near, 17) ^ turned(near, 19) ^ near >> 10);
  }
  auto [a, b, c, d, e, f, g, h] = hash;
  for (int i = 0; i < 64; ++i) {
    const uint32_t one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) +
                         constant[i] + word[i];
    const uint32_t two =
        (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
  }
  const std::array<uint32_t, 8> last{a, b, c, d, e, f, g, h};
  for (int i = 0; i < 8; ++i) hash[i] += last[i];
}

// In 64 hexadecimal digits, as sha256sum prints it.
inline std::string sha256(std::string bytes) {
  const uint64_t bits = uint64_t{bytes.size()} * 8;
  bytes.push_back(static_cast<char>(0x80));
  while (bytes.size() % 64 != 56) bytes.push_back(0);
  for (int shift = 56; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(bits >> shift));
  auto hash = fractions_of_roots<8>(std::sqrt);
  for (size_t at = 0; at < bytes.size(); at += 64)
    take_block(hash, reinterpret_cast<const unsigned char*>(bytes.data()) + at);
  std::string digits;
  for (uint32_t word : hash)
    for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[word >> shift & 15];
  return digits;
}

}  // namespace forecast
