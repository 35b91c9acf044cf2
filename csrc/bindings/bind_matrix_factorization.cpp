#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "kernels/matrix_factorization.hpp"

namespace fastroute::bindings {
namespace {

py::array_t<double> fold(const Array<float>& models, const Array<float>& projection,
                         const Array<float>& weights) {
    const MatrixFactorization factors{matrix(models), matrix(projection), pointer(weights, 1)};
    require(factors.models.columns == factors.projection.rows, "P and W differ in k");
    require(size(weights) == factors.models.columns, "P and c differ in k");
    py::array_t<double> out({models.shape(0), projection.shape(1)});
    double* folded = out.mutable_data();
    {
        // The arrays are held by the caller's arguments, and `out` is nobody else's yet.
        const py::gil_scoped_release release;
        fold_models(factors, folded);
    }
    return out;
}

double win_rate_of_one(const Array<float>& pair, const Array<float>& x) {
    const float* weights = pointer(pair, 1);
    const float* prompt = pointer(x, 1);
    require(size(pair) == size(x), "the embedding has another dimension");
    double win_rate = 0.0;
    // The GIL is kept: this takes less time than giving the lock away.
    pair_win_rates(weights, {prompt, 1, size(x), size(x)}, 1, &win_rate);
    return win_rate;
}

py::array_t<double> win_rates_of_many(const Array<float>& pair, const Array<float>& X,
                                      std::size_t num_threads) {
    const float* weights = pointer(pair, 1);
    const MatrixView prompts = matrix(X);
    require(size(pair) == prompts.columns, "the embeddings have another dimension");
    py::array_t<double> out(X.shape(0));
    double* win_rates = out.mutable_data();
    {
        const py::gil_scoped_release release;
        pair_win_rates(weights, prompts, num_threads, win_rates);
    }
    return out;
}

py::array_t<float> deltas_of_many(const Array<float>& folded, const Array<float>& X,
                                  std::size_t num_threads) {
    const MatrixView models = matrix(folded);
    const MatrixView prompts = matrix(X);
    require(models.columns == prompts.columns, "the embeddings have another dimension");
    py::array_t<float> out({X.shape(0), folded.shape(0)});
    float* deltas = out.mutable_data();
    {
        const py::gil_scoped_release release;
        model_deltas(models, prompts, num_threads, deltas);
    }
    return out;
}

}  // namespace

void register_matrix_factorization(py::module_& module) {
    module.def("fold_models", &fold, py::arg("models").noconvert(),
               py::arg("projection").noconvert(), py::arg("weights").noconvert(),
               "One vector a model, whose product with an embedding is delta: float64[models, d].");
    module.def("pair_win_rate", &win_rate_of_one, py::arg("pair").noconvert(),
               py::arg("x").noconvert(),
               "Win rate of one embedding; NaN where it is not finite or exactly orthogonal.");
    module.def("pair_win_rates", &win_rates_of_many, py::arg("pair").noconvert(),
               py::arg("X").noconvert(), py::arg("num_threads"),
               "Win rates of many embeddings, float64[n]; NaN as in pair_win_rate.");
    module.def("model_deltas", &deltas_of_many, py::arg("folded").noconvert(),
               py::arg("X").noconvert(), py::arg("num_threads"),
               "delta of every model on every embedding: float32[n, models].");
}

}  // namespace fastroute::bindings
