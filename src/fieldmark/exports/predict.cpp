// In C++: answers for images with the bundle in a folder, as `fieldmark predict --json` prints them. On Debian or Ubuntu:
//
//     apt install g++ pkg-config libonnxruntime-dev nlohmann-json3-dev libstb-dev libturbojpeg0-dev
//     g++ -std=c++17 -O2 predict.cpp $(pkg-config --cflags --libs libonnxruntime stb libturbojpeg) -o predict
//     ./predict BUNDLE photo.jpg another.png

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>
#include <turbojpeg.h>
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#include "stb_image.h"

using Json = nlohmann::ordered_json;
using Bytes = std::vector<uint8_t>;
using Doubles = std::vector<double>;

const int TOP = 5, BAR = 128, BITS = 22;
const double INFINITE = std::numeric_limits<double>::infinity();

struct Image {
    int width, height;
    Bytes data;  // red, green, blue of each pixel, row by row
};

Bytes read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("the file cannot be read");
    return Bytes(std::istreambuf_iterator<char>(file), {});
}

// The orientation that a JPEG's EXIF states, from 1 to 8.
int orientation(const Bytes& bytes) {
    auto number = [&](size_t at, int length, bool little) {
        uint32_t value = 0;
        for (int k = 0; k < length; k++) value = value << 8 | bytes.at(little ? at + length - 1 - k : at + k);
        return value;
    };
    for (size_t at = 2; at + 10 < bytes.size() && bytes[at] == 0xff && bytes[at + 1] != 0xda; at += 2 + number(at + 2, 2, false)) {
        if (bytes[at + 1] != 0xe1 || number(at + 4, 4, false) != 0x45786966) continue;
        size_t tiff = at + 10;
        bool little = number(tiff, 2, false) == 0x4949;
        size_t entries = tiff + number(tiff + 4, 4, little);
        for (uint32_t k = 0; k < number(entries, 2, little); k++)
            if (number(entries + 2 + 12 * k, 2, little) == 0x0112) return number(entries + 10 + 12 * k, 2, little);
    }
    return 1;
}

Image upright(const Image& image, int orientation) {
    if (orientation < 2 || orientation > 8) return image;
    bool turned = orientation >= 5, mirrored = orientation == 2 || orientation == 3 || orientation >= 7;
    bool flipped = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    Image found{turned ? image.height : image.width, turned ? image.width : image.height, Bytes(image.data.size())};
    for (int y = 0; y < found.height; y++)
        for (int x = 0; x < found.width; x++) {
            int column = turned ? y : x, row = turned ? x : y;
            if (mirrored) column = image.width - 1 - column;
            if (flipped) row = image.height - 1 - row;
            std::memcpy(&found.data[3 * (y * found.width + x)], &image.data[3 * (row * image.width + column)], 3);
        }
    return found;
}

// Like Fieldmark, at 1/8, 1/4 or 1/2 of its size if its shorter side keeps `at_least` pixels.
Image decode_jpeg(const Bytes& bytes, int at_least) {
    std::unique_ptr<void, decltype(&tjDestroy)> reader(tjInitDecompress(), tjDestroy);
    int width, height, subsampling, colours;
    Image image{};
    if (tjDecompressHeader3(reader.get(), bytes.data(), bytes.size(), &width, &height, &subsampling, &colours) == 0) {
        int shrunk = 8;
        while (shrunk > 1 && std::min(width, height) / at_least < shrunk) shrunk /= 2;
        width = (width + shrunk - 1) / shrunk, height = (height + shrunk - 1) / shrunk;
        image = {width, height, Bytes(size_t(3) * width * height)};
        if (tjDecompress2(reader.get(), bytes.data(), bytes.size(), image.data.data(), width, 0, height, TJPF_RGB, 0) == 0)
            return upright(image, orientation(bytes));
    }
    throw std::runtime_error(std::string("it cannot be decoded: ") + tjGetErrorStr2(reader.get()));
}

// Over white where it is transparent.
Image decode_png(const Bytes& bytes) {
    int width, height, channels;
    std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> read(
        stbi_load_from_memory(bytes.data(), int(bytes.size()), &width, &height, &channels, 4), stbi_image_free);
    if (!read) throw std::runtime_error(std::string("it cannot be decoded: ") + stbi_failure_reason());
    Image image{width, height, Bytes(size_t(3) * width * height)};
    for (size_t place = 0; place < image.data.size(); place++) {
        int alpha = read.get()[4 * (place / 3) + 3];
        int sum = read.get()[4 * (place / 3) + place % 3] * alpha + 255 * (255 - alpha) + 128;
        image.data[place] = ((sum >> 8) + sum) >> 8;
    }
    return image;
}

// The first pixel that a pixel sees, and the factors from there on, in fixed point.
struct Filter {
    int start;
    std::vector<int> factors;

    uint8_t operator()(const uint8_t* values, size_t stride) const {
        int sum = 1 << (BITS - 1);
        for (size_t k = 0; k < factors.size(); k++) sum += values[stride * (start + k)] * factors[k];
        return std::min(sum >> BITS, 255);
    }
};

std::vector<Filter> filters(int size, double from, double to, int count) {
    std::vector<Filter> found(count);
    double scale = (to - from) / count, support = std::max(scale, 1.0);
    for (int place = 0; place < count; place++) {
        double centre = from + (place + 0.5) * scale, sum = 0;
        int start = std::max(int(centre - support + 0.5), 0), end = std::min(int(centre + support + 0.5), size);
        Doubles factors;
        for (int k = start; k < end; k++) {
            factors.push_back(std::max(1 - std::abs((k - centre + 0.5) * (1 / support)), 0.0));
            sum += factors.back();
        }
        found[place].start = start;
        for (double factor : factors) found[place].factors.push_back(int(0.5 + factor / sum * (1 << BITS)));
    }
    return found;
}

Image along_rows(const Image& image, const std::vector<Filter>& filters) {
    Image found{int(filters.size()), image.height, Bytes(3 * filters.size() * image.height)};
    for (size_t place = 0; place < found.data.size(); place++) {
        size_t row = place / 3 / found.width, x = place / 3 % found.width;
        found.data[place] = filters[x](&image.data[3 * row * image.width + place % 3], 3);
    }
    return found;
}

Image along_columns(const Image& image, const std::vector<Filter>& filters) {
    size_t row = size_t(3) * image.width;
    Image found{image.width, int(filters.size()), Bytes(row * filters.size())};
    for (size_t place = 0; place < found.data.size(); place++)
        found.data[place] = filters[place / row](&image.data[place % row], row);
    return found;
}

// Bilinear with antialiasing, pixel for pixel as Pillow 13 does it: one direction after the other, each rounded to 8 bits.
Image resize(const Image& image, int width, int height, double left, double top, double right, double bottom) {
    auto across = filters(image.width, left, right, width), down = filters(image.height, top, bottom, height);
    bool columns_first = image.height > height && image.height - height > 2 * (image.width - width);
    return columns_first ? along_rows(along_columns(image, down), across) : along_columns(along_rows(image, across), down);
}

// The square that the network sees: squashed, its middle, or whole between grey bars.
Image square(const Image& image, int size, const std::string& how) {
    int width = image.width, height = image.height;
    if (how == "squash") return resize(image, size, size, 0, 0, width, height);
    if (how == "shorter-side") {
        double side = std::min(width, height), left = (width - side) / 2, top = (height - side) / 2;
        return resize(image, size, size, left, top, left + side, top + side);
    }
    double scale = double(size) / std::max(width, height);
    auto side = [&](int length) { return std::max(1, int(std::nearbyint(length * scale))); };
    Image fitted = resize(image, side(width), side(height), 0, 0, width, height);
    Image found{size, size, Bytes(size_t(3) * size * size, BAR)};
    int left = (size - fitted.width) / 2, top = (size - fitted.height) / 2;
    for (int y = 0; y < fitted.height; y++)
        std::memcpy(&found.data[3 * ((y + top) * size + left)], &fitted.data[3 * y * fitted.width], 3 * fitted.width);
    return found;
}

struct Array {
    Doubles values;
    std::vector<size_t> shape;
};

// The arrays of a safetensors file by their names.
std::map<std::string, Array> read_arrays(const std::string& path) {
    Bytes bytes = read(path);
    uint64_t length;
    std::memcpy(&length, bytes.data(), 8);
    std::map<std::string, Array> found;
    const Json header = Json::parse(bytes.begin() + 8, bytes.begin() + 8 + length);
    for (auto& [name, entry] : header.items()) {
        if (name == "__metadata__") continue;
        size_t from = entry["data_offsets"][0], to = entry["data_offsets"][1], width = entry["dtype"] == "F64" ? 8 : 4;
        const uint8_t* start = &bytes[8 + length + from];
        Doubles values((to - from) / width);
        for (size_t k = 0; k < values.size(); k++) {
            float single;
            std::memcpy(&single, start + width * k, 4);
            if (width == 8) std::memcpy(&values[k], start + width * k, 8); else values[k] = single;
        }
        found[name] = {values, entry["shape"].get<std::vector<size_t>>()};
    }
    return found;
}

double number_or_infinite(const Json& value) { return value.is_null() ? INFINITE : value.get<double>(); }

double dot(const double* a, const double* b, size_t n) { return std::inner_product(a, a + n, b, 0.0); }

double energy(const Doubles& logits) {
    double largest = *std::max_element(logits.begin(), logits.end()), sum = 0;
    for (double logit : logits) sum += std::exp(logit - largest);
    return largest + std::log(sum);
}

// The mean cosine with the 3 nearest training images.
double nearness(const Doubles& features, const Array& reference) {
    size_t width = features.size(), some = std::min<size_t>(3, reference.shape[0]);
    double length = std::sqrt(dot(features.data(), features.data(), width));
    Doubles cosines;
    for (size_t row = 0; row < reference.shape[0]; row++)
        cosines.push_back(dot(features.data(), &reference.values[row * width], width) / (length > 0 ? length : 1));
    std::partial_sort(cosines.begin(), cosines.begin() + some, cosines.end(), std::greater<>());
    return std::accumulate(cosines.begin(), cosines.begin() + some, 0.0) / some;
}

// (features - origin) times a matrix.
Doubles projected(const Doubles& features, const Array& origin, const Array& matrix) {
    Doubles found(matrix.shape[1]);
    for (size_t k = 0; k < features.size(); k++)
        for (size_t column = 0; column < found.size(); column++)
            found[column] += (features[k] - origin.values[k]) * matrix.values[k * found.size() + column];
    return found;
}

// How much an image is like those of the classes: of logits, features and what is in rejection.safetensors.
double score(const std::string& name, const Doubles& logits, const Doubles& features, const std::map<std::string, Array>& arrays) {
    double largest = *std::max_element(logits.begin(), logits.end());
    if (name == "msp") return 1 / std::exp(energy(logits) - largest);
    if (name == "max-logit") return largest;
    if (name == "energy") return energy(logits);
    if (name == "knn") return nearness(features, arrays.at("reference"));
    if (name == "max-logit+knn") {
        const Doubles &of_logits = arrays.at("largest").values, &of_nearness = arrays.at("nearness").values;
        return (largest - of_logits[0]) / of_logits[1] + (nearness(features, arrays.at("reference")) - of_nearness[0]) / of_nearness[1];
    }
    if (name == "vim") {
        Doubles rest = projected(features, arrays.at("origin"), arrays.at("outside"));
        return energy(logits) - arrays.at("scale").values[0] * std::sqrt(dot(rest.data(), rest.data(), rest.size()));
    }
    Doubles whitened = projected(features, arrays.at("centre"), arrays.at("whitening"));  // mahalanobis
    const Array& means = arrays.at("means");
    size_t width = whitened.size();
    double nearest = INFINITE;
    for (size_t row = 0; row < means.shape[0]; row++) {
        const double* mean = &means.values[row * width];
        nearest = std::min(nearest, dot(mean, mean, width) - 2 * dot(mean, whitened.data(), width));
    }
    return -std::max(dot(whitened.data(), whitened.data(), width) + nearest, 0.0);
}

// Logits of all classes, those that were enrolled among them, from features, which become of length 1.
Doubles with_enrolled(Doubles& features, const std::map<std::string, Array>& head) {
    double length = std::sqrt(dot(features.data(), features.data(), features.size()));
    for (double& each : features) each /= length > 0 ? length : 1;
    Doubles logits = head.at("bias").values;
    for (size_t k = 0; k < logits.size(); k++) logits[k] += dot(&head.at("weight").values[k * features.size()], features.data(), features.size());
    return logits;
}

Json without_answer(const std::string& note) {
    return {{"unknown", nullptr}, {"classes", Json::array()}, {"among", Json::array()}, {"coarser", Json::object()}, {"note", note}};
}

// The answer: the likeliest classes, whether the image is probably of none, the prediction set, and coarser levels.
Json decide(const Json& bundle, const std::map<std::string, Array>& arrays, const Doubles& logits, const Doubles& features) {
    const Json &decisions = bundle["decisions"], &names = bundle["class_names"];
    size_t classes = logits.size();
    Doubles probabilities(classes);
    for (size_t k = 0; k < classes; k++) {
        if (!std::isfinite(logits[k])) return without_answer("the answer is not a number");
        double scaled = decisions.is_null() ? logits[k]
            : decisions["vector"].is_null() ? logits[k] * (1 / double(decisions["temperature"]))
            : logits[k] * double(decisions["vector"]["scale"][k]) + double(decisions["vector"]["bias"][k]);
        probabilities[k] = float(scaled);
    }
    double total = energy(probabilities);
    for (double& each : probabilities) each = float(std::exp(each - total));
    std::vector<size_t> order(classes);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return probabilities[a] > probabilities[b]; });

    Json answer = without_answer("");
    for (size_t place = 0; place < std::min<size_t>(TOP, classes); place++)
        answer["classes"].push_back({{"class", names[order[place]]}, {"probability", std::round(probabilities[order[place]] * 1e6) / 1e6}});
    if (decisions.is_null()) return answer;

    std::string name = decisions["rejection"]["score"];
    const Json& threshold = decisions["rejection"]["scores"][name]["threshold"];
    answer["unknown"] = !threshold.is_null() && score(name, logits, features, arrays) < double(threshold);

    const Json& sets = decisions["sets"];
    double above = 0;  // the mass of the classes above a class, with a penalty on long sets, is at most a quantile
    for (size_t place = 0; place < classes; place++) {
        size_t k = order[place];
        bool own = k < sets["class_quantiles"].size() && !sets["class_quantiles"][k].is_null();
        double quantile = number_or_infinite(own ? sets["class_quantiles"][k] : sets["quantile"]);
        double penalty = double(sets["penalty"]) * std::max(int(place) + 1 - int(sets["k_reg"]), 0);
        if (above + penalty <= quantile) answer["among"].push_back(names[k]);
        above += probabilities[k];
    }

    for (auto& [level, rule] : decisions["backoff"].items()) {  // the class if it is sure enough, or else its parent, or ""
        std::map<std::string, double> sums;
        for (size_t k = 0; k < classes; k++) sums[bundle["levels"][level][k]] += probabilities[k];
        auto parent = std::max_element(sums.begin(), sums.end(), [](auto& a, auto& b) { return a.second < b.second; });
        if (probabilities[order[0]] >= number_or_infinite(rule["species_threshold"])) answer["coarser"][level] = names[order[0]];
        else answer["coarser"][level] = parent->second >= number_or_infinite(rule["parent_threshold"]) ? parent->first : "";
    }
    return answer;
}

int main(int count, char** arguments) {
    if (count < 3) return std::cerr << "usage: predict BUNDLE IMAGE...\n", 2;
    std::string folder = std::string(arguments[1]) + "/";
    Bytes text = read(folder + "bundle.json");
    const Json bundle = Json::parse(text.begin(), text.end());
    int size = bundle["preprocess"]["size"], batch = std::numeric_limits<int>::max();
    for (auto& [each, file] : bundle["graph"]["files"].items()) batch = std::min(batch, std::stoi(each));

    Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "predict");
    std::string graph = folder + bundle["graph"]["files"][std::to_string(batch)].get<std::string>();
    Ort::Session session(environment, graph.c_str(), Ort::SessionOptions{});
    std::map<std::string, Array> arrays, head;
    if (bundle.contains("enrolled") && !bundle["enrolled"].empty()) head = read_arrays(folder + "head.safetensors");
    if (std::ifstream(folder + "rejection.safetensors")) arrays = read_arrays(folder + "rejection.safetensors");

    for (int place = 2; place < count; place++) {
        Json line = {{"path", arguments[place]}};
        try {
            Bytes bytes = read(arguments[place]);
            Image image = bytes.size() > 1 && bytes[0] == 0xff ? decode_jpeg(bytes, size) : decode_png(bytes);
            Image seen = square(image, size, bundle["preprocess"]["resize"]);
            Bytes images;  // channels first; a graph takes exactly so many images
            for (int copy = 0; copy < batch; copy++)
                for (int channel = 0; channel < 3; channel++)
                    for (size_t pixel = 0; pixel < seen.data.size() / 3; pixel++) images.push_back(seen.data[3 * pixel + channel]);
            std::vector<int64_t> shape{batch, 3, size, size};
            auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
            auto input = Ort::Value::CreateTensor<uint8_t>(memory, images.data(), images.size(), shape.data(), shape.size());
            const char *inputs[] = {"images"}, *outputs[] = {"logits", "features"};
            auto results = session.Run(Ort::RunOptions{}, inputs, &input, 1, outputs, 2);
            auto first = [&](const Ort::Value& value) {
                const float* values = value.GetTensorData<float>();
                return Doubles(values, values + value.GetTensorTypeAndShapeInfo().GetElementCount() / batch);
            };
            Doubles logits = first(results[0]), features = first(results[1]);
            if (!head.empty()) logits = with_enrolled(features, head);
            line.update(decide(bundle, arrays, logits, features));
        } catch (const std::exception& error) {
            line.update(without_answer(error.what()));
        }
        std::cout << line.dump() << "\n";
    }
}
