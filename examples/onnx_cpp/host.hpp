// What a host of an exported forecaster does: it keeps the state, knows which slot holds which id,
// and calls the graphs in turn. The same as host.py of the exported folder, by the same rules.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "folder.hpp"
#include "graph.hpp"
#include "scene.hpp"

namespace forecast {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Step {
  std::vector<int64_t> id;  // 0 = empty slot
  std::vector<float> pose, existence, uncertainty;
};

class Forecaster {
 public:
  // `folder` was written by `forecast export`. What is not as it was exported, and later every
  // number that cannot be, is refused by an exception; then nothing changes.
  Forecaster(const std::string& path, int64_t slots, int threads)
      : slots_(slots), env_(ORT_LOGGING_LEVEL_ERROR, "forecast") {
    const Folder folder(path);
    folder.expect_slots(slots);
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    for (const std::string name : {"observe", "observe_raster", "look_ahead", "step"}) {
      const std::string file = name + "_" + std::to_string(slots);
      if (name == "observe_raster" && !folder.has(file + ".onnx")) continue;  // reads no rasters
      graphs_.emplace(name, std::make_unique<Graph>(env_, folder, file, options));
      if (graphs_.at(name)->told("") != graphs_.at("observe")->told(""))
        refuse("graphs of one export", file + " of another", "export again");
    }
    Graph& graph = *graphs_.at("observe");
    classes_ = static_cast<int64_t>(graph.told_numbers<1>("_classes")[0]);
    dt_range_s_ = graph.told_numbers<2>("_dt_range_s");
    grid_m_ = graph.told_numbers<4>("_grid_m");
    lane_spacing_m_ = static_cast<float>(graph.told_numbers<1>("_lane_spacing_m")[0]);
    start();
  }

  // How many agents of the last moment are not forecast: no slot was free, or they are off grid.
  int64_t left_out() const { return left_out_; }

  // Forgets everything, and takes a map as set_map does, in the first frame.
  void start(const Map* map = nullptr, const Points& points = {}) {
    Tensors state;
    for (auto& [name, graph] : graphs_)
      for (auto& [input, zero] : graph->inputs) state[input] = zero;
    take_map(state, map, points);
    state_ = std::move(state);
    zero_s_ = last_s_ = -std::numeric_limits<double>::infinity();
    raster_ids_.clear();
  }

  // Takes another map, in the frame of the last moment; all else stays as it is. Null = empty.
  void set_map(const Map* map, const Points& points) { take_map(state_, map, points); }

  void observe(const Moment& moment) {
    expect_moment(moment, last_s_, classes_);
    last_s_ = moment.time_s;
    if (moment.time_s - zero_s_ > 600) {  // clocks may count from 1970, and float has seven digits
      Tensor& time = state_.at("time");
      if (std::isfinite(zero_s_))
        for (size_t i = 0; i < time.bytes.size() / sizeof(float); ++i)
          time.as<float>()[i] -= static_cast<float>(moment.time_s - zero_s_);
      zero_s_ = moment.time_s;
    }
    if (moment.raster) raster_ids_ = moment.raster_ids;
    const std::vector<int64_t> held = associated(moment);
    for (const Box& box : moment.boxes)
      if (std::count(held.begin(), held.end(), box.id) && !raster_ids_.count(box.id))
        left_out_ += is_off_grid(box);
    Tensors given = given_of(moment, held);
    const bool reads = moment.raster && graphs_.count("observe_raster");
    take(state_, graphs_.at(reads ? "observe_raster" : "observe")->run(state_, given));
  }

  std::vector<Step> forecast(int horizon, double dt_s) {
    expect_whole("horizon", horizon);
    const auto [low, high] = dt_range_s_;
    if (!(low - kSameStepS <= dt_s && dt_s <= high + kSameStepS))
      refuse("dt_s of " + text(low) + " to " + text(high) + " s, which it was trained for",
             text(dt_s), "take steps of another length");
    if (!state_.at("observed").as<bool>()[0])
      refuse("an observation before the first step", "none", "observe a moment");
    if (state_.count("raster_seen") && !state_.at("raster_seen").as<bool>()[0])
      refuse("an observation whose raster is read before the first step", "none",
             "observe a moment with raster = true");
    Tensors future = state_, given;
    given["on_raster"] = zeros({1, slots_}, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL);
    for (int64_t i = 0; i < slots_; ++i)
      given["on_raster"].as<bool>()[i] = raster_ids_.count(future.at("id").as<int64_t>()[i]) > 0;
    take(future, graphs_.at("look_ahead")->run(future, given));
    given["dt"] = zeros({1}, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    given["dt"].as<float>()[0] = static_cast<float>(dt_s);
    std::vector<Step> steps;
    for (int lead = 0; lead < horizon; ++lead) {
      Tensors said = graphs_.at("step")->run(future, given);
      auto floats = [&](const char* name, int64_t each) {
        float* first = said.at(name).as<float>();
        return std::vector<float>(first, first + slots_ * each);
      };
      int64_t* id = future.at("id").as<int64_t>();
      steps.push_back({{id, id + slots_}, floats("forecast_pose", 3), floats("existence", 1),
                       floats("uncertainty", 2)});
      take(future, std::move(said));
    }
    return steps;
  }

 private:
  // The new values of the state: outputs are called next_NAME.
  static void take(Tensors& state, Tensors said) {
    for (auto& [name, tensor] : said)
      if (name.rfind("next_", 0) == 0) state[name.substr(5)] = std::move(tensor);
  }

  // Checks the map before it changes the state.
  void take_map(Tensors& state, const Map* map, const Points& points) const {
    Tensor& room = state.at("lane_point");
    const LanePoints known =
        nearest_points(thinned(points, lane_spacing_m_), static_cast<size_t>(room.shape[1]));
    if (state.count("map")) {
      Tensor& layers = state.at("map");
      if (map) expect_map(*map, {layers.shape[1], layers.shape[2], layers.shape[3]});
      std::fill(layers.bytes.begin(), layers.bytes.end(), 0);
      if (map) std::memcpy(layers.bytes.data(), map->cells.data(), layers.bytes.size());
      Tensor& frame = state.at("map_frame");
      std::fill(frame.bytes.begin(), frame.bytes.end(), 0);
    }
    std::fill_n(room.as<float>(), room.bytes.size() / sizeof(float), kNaN);
    std::memcpy(room.bytes.data(), known.data(), known.size() * sizeof(known[0]));
  }

  bool is_off_grid(const Box& box) const {
    const auto x = static_cast<float>(box.pose_size[0]), y = static_cast<float>(box.pose_size[1]);
    const auto [x_min, x_max, y_min, y_max] = grid_m_;
    return x < x_min || x >= x_max || y < y_min || y >= y_max;
  }

  // Which id each slot holds from now on; the rule is that of host.py.
  std::vector<int64_t> associated(const Moment& moment) {
    const int64_t* id = state_.at("id").as<int64_t>();
    std::vector<int64_t> held(id, id + slots_);
    std::vector<const Box*> fresh;
    for (const Box& box : moment.boxes)
      if (std::find(held.begin(), held.end(), box.id) == held.end()) fresh.push_back(&box);
    left_out_ = 0;
    if (fresh.empty()) return held;
    const int64_t memory = state_.at("seen").shape[2];
    const bool* seen = state_.at("seen").as<bool>();
    for (int64_t i = 0; i < slots_; ++i)
      if (std::none_of(seen + i * memory, seen + (i + 1) * memory, [](bool s) { return s; }))
        held[i] = 0;
    std::set<const Box*> kept(fresh.begin(), fresh.end());
    if (static_cast<int64_t>(fresh.size()) > std::count(held.begin(), held.end(), 0))
      kept = nearest(moment, held, fresh, memory);
    auto free = held.begin();
    for (const Box* box : fresh) {
      if (!kept.count(box)) continue;
      free = std::find(free, held.end(), 0);
      *free = box->id;
    }
    return held;
  }

  // Of more agents than slots the nearest to the ego: empties slots, returns the new ones to keep.
  std::set<const Box*> nearest(const Moment& moment, std::vector<int64_t>& held,
                               const std::vector<const Box*>& fresh, int64_t memory) {
    struct Candidate {
      double far;
      int64_t slot;
      const Box* box;
    };
    std::vector<Candidate> all;
    const float* past = state_.at("past").as<float>();
    const double cos = std::cos(moment.moved[2]), sin = std::sin(moment.moved[2]);
    for (int64_t i = 0; i < slots_; ++i) {
      if (!held[i]) continue;
      const float* last = past + (i * memory + memory - 1) * 3;
      const double x = last[0] - moment.moved[0], y = last[1] - moment.moved[1];
      all.push_back({std::hypot(cos * x + sin * y, cos * y - sin * x), i, nullptr});
    }
    for (const Box* box : fresh)
      all.push_back({std::hypot(double{static_cast<float>(box->pose_size[0])},
                                double{static_cast<float>(box->pose_size[1])}),
                     -1, box});
    std::stable_sort(all.begin(), all.end(),
                     [](const Candidate& a, const Candidate& b) { return a.far < b.far; });
    std::set<const Box*> kept;
    for (size_t i = 0; i < all.size(); ++i) {
      if (static_cast<int64_t>(i) < slots_) {
        if (all[i].box) kept.insert(all[i].box);
      } else if (!all[i].box) {
        held[all[i].slot] = 0;
      }
    }
    left_out_ = static_cast<int64_t>(all.size()) - slots_;
    return kept;
  }

  Tensors given_of(const Moment& moment, const std::vector<int64_t>& held) const {
    Tensors given = graphs_.at("observe")->inputs;
    std::copy(held.begin(), held.end(), given.at("slot_id").as<int64_t>());
    std::fill_n(given.at("box").as<float>(), slots_ * 5, kNaN);
    for (const Box& box : moment.boxes) {
      auto place = std::find(held.begin(), held.end(), box.id);
      if (place == held.end()) continue;
      const auto slot = place - held.begin();
      given.at("slot_label").as<int64_t>()[slot] = box.label;
      std::copy(box.pose_size.begin(), box.pose_size.end(), given.at("box").as<float>() + slot * 5);
    }
    given.at("time_s").as<float>()[0] = static_cast<float>(moment.time_s - zero_s_);
    std::copy(moment.ego.begin(), moment.ego.end(), given.at("ego").as<float>());
    std::copy(moment.moved.begin(), moment.moved.end(), given.at("moved").as<float>());
    Tensors inputs;
    for (const char* name : {"slot_id", "slot_label", "box", "time_s", "ego", "moved"})
      inputs[name] = given.at(name);
    return inputs;
  }

  int64_t slots_;
  int64_t classes_ = 0, left_out_ = 0;
  std::array<double, 2> dt_range_s_{};
  std::array<double, 4> grid_m_{};  // least and largest x, then y
  float lane_spacing_m_ = 0;
  Ort::Env env_;
  std::map<std::string, std::unique_ptr<Graph>> graphs_;
  Tensors state_;
  std::set<int64_t> raster_ids_;
  double zero_s_ = 0, last_s_ = 0;
};

}  // namespace forecast
