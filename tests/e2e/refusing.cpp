// Gives a host what cannot be, and prints what it took; then two slots, and how many it left out.
#include <cstdio>
#include "host.hpp"

int main(int, char** words) {
  forecast::Forecaster one(words[1], 24, 1);
  const double nan = std::nan("");
  forecast::Moment moment;
  moment.time_s = 0.5;
  moment.boxes = {{7, 1, {0, 0, 0, 4, 2}}, {8, 1, {465000, 0, 0, 4, 2}}};
  auto refused = [&](auto call) {
    try {
      call();
      std::puts("not refused");
    } catch (const std::invalid_argument&) {
    }
  };
  auto other = [&](auto change) {
    refused([&] {
      forecast::Moment wrong = moment;
      change(wrong);
      one.observe(wrong);
    });
  };
  refused([&] { one.forecast(1, 0.5); });
  one.observe(moment);
  const forecast::Map small{{1, 1, 1}, {0}};
  const forecast::Points astray{{0, nan, 0}};
  refused([&] { one.start(&small); });
  refused([&] { one.start(nullptr, astray); });
  refused([&] { one.set_map(&small, {}); });
  for (int horizon : {0, -1}) refused([&] { one.forecast(horizon, 0.5); });
  for (double dt_s : {0.0, 5.0, -0.5, nan}) refused([&] { one.forecast(1, dt_s); });
  for (double time_s : {0.4, nan, 1e13}) other([&](auto& wrong) { wrong.time_s = time_s; });
  for (double place : {nan, 2e6}) {
    other([&](auto& wrong) { wrong.ego[1] = place; });
    other([&](auto& wrong) { wrong.moved[2] = place; });
    other([&](auto& wrong) { wrong.boxes[0].pose_size[2] = place; });
  }
  for (double width : {0.0, -2.0, 201.0, nan})
    other([&](auto& wrong) { wrong.boxes[0].pose_size[4] = width; });
  for (int64_t id : {0, -1, 8}) other([&](auto& wrong) { wrong.boxes[0].id = id; });
  other([&](auto& wrong) { wrong.raster_ids = {0}; });
  const auto step = one.forecast(1, 0.5).at(0);
  std::printf("%d %d %d\n", int(step.id[0]), int(step.id[1]), int(one.left_out()));
}
