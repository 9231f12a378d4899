// What a host of an exported forecaster does: it keeps the state, knows which slot holds which id,
// and calls the graphs in turn. The same as host.py of the exported folder.
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
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace forecast {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Numbers of one shape and type.
struct Tensor {
  std::vector<int64_t> shape;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  std::vector<char> bytes;

  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(bytes.data());
  }
};

using Tensors = std::map<std::string, Tensor>;

inline size_t bytes_of(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
      return 8;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return 4;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
      return 1;
    default:
      throw std::runtime_error("expected float, int64 or bool tensors; got another type; export again");
  }
}

inline Tensor zeros(std::vector<int64_t> shape, ONNXTensorElementDataType type) {
  size_t count = 1;
  for (int64_t size : shape) count *= static_cast<size_t>(size);
  return {std::move(shape), type, std::vector<char>(count * bytes_of(type))};
}

// One graph, its inputs and outputs by name.
class Graph {
 public:
  Graph(Ort::Env& env, const std::string& path, const Ort::SessionOptions& options)
      : session_(env, path.c_str(), options) {
    Ort::AllocatorWithDefaultOptions allocator;
    for (size_t i = 0; i < session_.GetInputCount(); ++i) {
      auto type = session_.GetInputTypeInfo(i);
      auto info = type.GetTensorTypeAndShapeInfo();
      inputs[session_.GetInputNameAllocated(i, allocator).get()] =
          zeros(info.GetShape(), info.GetElementType());
    }
    for (size_t i = 0; i < session_.GetOutputCount(); ++i)
      outputs_.push_back(session_.GetOutputNameAllocated(i, allocator).get());
    auto metadata = session_.GetModelMetadata();
    auto id = metadata.LookupCustomMetadataMapAllocated("bev_forecast", allocator);
    if (id) export_id = id.get();
    auto count = metadata.LookupCustomMetadataMapAllocated("bev_forecast_classes", allocator);
    if (count) classes = std::stoll(count.get());
  }

  // What it says. What is given goes before what the state holds.
  Tensors run(Tensors& state, Tensors& given) {
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<const char*> names, said_names;
    std::vector<Ort::Value> values;
    for (auto& [name, zero] : inputs) {
      Tensor& tensor = given.count(name) ? given.at(name) : state.at(name);
      names.push_back(name.c_str());
      values.push_back(Ort::Value::CreateTensor(memory, tensor.bytes.data(), tensor.bytes.size(),
                                                zero.shape.data(), zero.shape.size(), zero.type));
    }
    for (const std::string& name : outputs_) said_names.push_back(name.c_str());
    auto said = session_.Run(Ort::RunOptions{nullptr}, names.data(), values.data(), values.size(),
                             said_names.data(), said_names.size());
    Tensors result;
    for (size_t i = 0; i < said.size(); ++i) {
      auto info = said[i].GetTensorTypeAndShapeInfo();
      Tensor tensor = zeros(info.GetShape(), info.GetElementType());
      std::memcpy(tensor.bytes.data(), said[i].GetTensorData<char>(), tensor.bytes.size());
      result[outputs_[i]] = std::move(tensor);
    }
    return result;
  }

  Tensors inputs;
  std::string export_id;
  int64_t classes = 0;  // 0 = not told

 private:
  Ort::Session session_;
  std::vector<std::string> outputs_;
};

struct Box {
  int64_t id, label;
  std::array<float, 5> pose_size;  // x, y, yaw, length, width
};

struct Moment {
  double time_s = 0;
  std::array<float, 3> ego{}, moved{};
  bool raster = true;  // whether the boxes are drawn and the raster is read
  std::vector<Box> boxes;
  std::set<int64_t> raster_ids;  // of agents that have a cell in the raster
};

struct Step {
  std::vector<int64_t> id;  // 0 = empty slot
  std::vector<float> pose, existence, uncertainty;
};

// One point of each direction in every square of a lattice: the first that there is.
inline std::vector<std::array<float, 3>> thinned(const std::vector<std::array<float, 3>>& points,
                                                 float spacing_m) {
  std::set<std::array<int64_t, 3>> taken;
  std::vector<std::array<float, 3>> kept;
  for (const auto& point : points) {
    auto turns = std::nearbyint(point[2] / static_cast<float>(2 * M_PI) * 8.0f);
    int64_t turn = ((static_cast<int64_t>(turns) % 8) + 8) % 8;
    auto square = [&](float place) {
      return std::clamp(static_cast<int64_t>(std::floor(place / spacing_m)), int64_t{-4096},
                        int64_t{4095});
    };
    if (spacing_m <= 0 || taken.insert({square(point[0]), square(point[1]), turn}).second)
      kept.push_back(point);
  }
  return kept;
}

class Forecaster {
 public:
  // `folder` was written by `forecast export --agents slots`.
  Forecaster(const std::string& folder, int64_t slots, int threads)
      : slots_(slots), env_(ORT_LOGGING_LEVEL_ERROR, "forecast") {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);
    for (const std::string name : {"observe", "observe_raster", "look_ahead", "step"}) {
      const std::string path = folder + "/" + name + "_" + std::to_string(slots) + ".onnx";
      if (name == "observe_raster" && !std::unique_ptr<FILE, int (*)(FILE*)>(
                                          std::fopen(path.c_str(), "rb"), std::fclose))
        continue;  // the model reads no rasters
      graphs_.emplace(name, std::make_unique<Graph>(env_, path, options));
      if (graphs_.at(name)->export_id != graphs_.at("observe")->export_id)
        throw std::runtime_error("expected graphs of one export; got " + path +
                                 " of another; export again");
    }
    if (!graphs_.at("observe")->classes)
      throw std::runtime_error("expected graphs that tell their classes; got none in " + folder +
                               "; export again");
  }

  // Forgets everything, and takes the map (M x H x W of 0 and 1) and lane centres (x, y, yaw).
  void start(const std::vector<float>& map, const std::vector<std::array<float, 3>>& points,
             float lane_spacing_m) {
    for (auto& [name, graph] : graphs_)
      for (auto& [input, zero] : graph->inputs) state_[input] = zero;
    zero_s_ = last_s_ = -std::numeric_limits<double>::infinity();
    raster_ids_.clear();
    set_map(map, points, lane_spacing_m);
  }

  // Takes another map, in the frame of the last moment; all else stays as it is.
  void set_map(const std::vector<float>& map, const std::vector<std::array<float, 3>>& points,
               float lane_spacing_m) {
    if (state_.count("map")) {
      Tensor& layers = state_.at("map");
      if (map.size() * sizeof(float) != layers.bytes.size())
        throw std::runtime_error("expected a map of the exported grid; got another; crop or fill it");
      std::memcpy(layers.bytes.data(), map.data(), layers.bytes.size());
      Tensor& frame = state_.at("map_frame");
      std::fill(frame.bytes.begin(), frame.bytes.end(), 0);
    }
    auto known = thinned(points, lane_spacing_m);
    Tensor& room = state_.at("lane_point");
    const size_t most = static_cast<size_t>(room.shape[1]);
    if (known.size() > most) {  // the nearest to the ego are kept
      std::stable_sort(known.begin(), known.end(), [](const auto& a, const auto& b) {
        return std::hypot(a[0], a[1]) < std::hypot(b[0], b[1]);
      });
      known.resize(most);
    }
    std::fill_n(room.as<float>(), most * 3, kNaN);
    std::memcpy(room.bytes.data(), known.data(), known.size() * sizeof(known[0]));
  }

  void observe(const Moment& moment) {
    for (const Box& box : moment.boxes)
      if (box.label > graphs_.at("observe")->classes)
        throw std::runtime_error("expected labels of 1 to " +
                                 std::to_string(graphs_.at("observe")->classes) + "; got " +
                                 std::to_string(box.label) + "; give classes it knows");
    if (!std::isfinite(moment.time_s))
      throw std::runtime_error("expected a time in seconds; got none; give the moment's own");
    if (moment.time_s < last_s_)
      throw std::runtime_error("expected moments in the order of time; got an earlier one; sort them");
    last_s_ = moment.time_s;
    if (moment.time_s - zero_s_ > 600) {  // clocks may count from 1970, and float has seven digits
      Tensor& time = state_.at("time");
      if (std::isfinite(zero_s_))
        for (size_t i = 0; i < time.bytes.size() / sizeof(float); ++i)
          time.as<float>()[i] -= static_cast<float>(moment.time_s - zero_s_);
      zero_s_ = moment.time_s;
    }
    Tensors given = given_of(moment, associated(moment));
    if (moment.raster) raster_ids_ = moment.raster_ids;
    const bool reads = moment.raster && graphs_.count("observe_raster");
    take(state_, graphs_.at(reads ? "observe_raster" : "observe")->run(state_, given));
  }

  std::vector<Step> forecast(int horizon, float dt_s) {
    if (!state_.at("observed").as<bool>()[0] ||
        (state_.count("raster_seen") && !state_.at("raster_seen").as<bool>()[0]))
      throw std::runtime_error("expected a moment whose raster is read; got none; observe one");
    Tensors future = state_, given;
    given["on_raster"] = zeros({1, slots_}, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL);
    for (int64_t i = 0; i < slots_; ++i)
      given["on_raster"].as<bool>()[i] = raster_ids_.count(future.at("id").as<int64_t>()[i]) > 0;
    take(future, graphs_.at("look_ahead")->run(future, given));
    given["dt"] = zeros({1}, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
    given["dt"].as<float>()[0] = dt_s;
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

  // Which id each slot holds from now on; the rule is that of host.py.
  std::vector<int64_t> associated(const Moment& moment) {
    const int64_t* id = state_.at("id").as<int64_t>();
    std::vector<int64_t> held(id, id + slots_);
    std::vector<const Box*> fresh;
    for (const Box& box : moment.boxes)
      if (std::find(held.begin(), held.end(), box.id) == held.end()) fresh.push_back(&box);
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
      float far;
      int64_t slot;
      const Box* box;
    };
    std::vector<Candidate> all;
    const float* past = state_.at("past").as<float>();
    const float cos = std::cos(moment.moved[2]), sin = std::sin(moment.moved[2]);
    for (int64_t i = 0; i < slots_; ++i) {
      if (!held[i]) continue;
      const float* last = past + (i * memory + memory - 1) * 3;
      const float x = last[0] - moment.moved[0], y = last[1] - moment.moved[1];
      all.push_back({std::hypot(cos * x + sin * y, cos * y - sin * x), i, nullptr});
    }
    for (const Box* box : fresh)
      all.push_back({std::hypot(box->pose_size[0], box->pose_size[1]), -1, box});
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
  Ort::Env env_;
  std::map<std::string, std::unique_ptr<Graph>> graphs_;
  Tensors state_;
  std::set<int64_t> raster_ids_;
  double zero_s_ = 0, last_s_ = 0;
};

}  // namespace forecast
