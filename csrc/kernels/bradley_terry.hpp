// Bradley-Terry ratings by maximum likelihood (Bradley and Terry 1952), by Newton's method.
//
// Player i beats player j with probability sigmoid(theta_i - theta_j). The likelihood depends on
// the battles only through `wins`, the summed weight of i beating j, so a million battles cost no
// more than a hundred cells. A tie is half a win each: added to both cells.
//
// `anchors` is for reproducing RouteLLM's strict form: there a battle of i with itself is taken as
// a battle of i against a fixed opponent of rating 0, i winning with sigmoid(-theta_i) (its
// feature column is left at -ln 10). Without anchors, ratings are free up to a constant, and the
// constant of the starting point is kept.
#pragma once

#include <cstddef>
#include <vector>

namespace fastroute {

struct WinTable {
    std::size_t players;
    const double* wins;  // [players * players], wins[i * players + j]: i over j; diagonal unused
    const double* anchor_wins;    // [players] or null: weight of "won" self-battles
    const double* anchor_losses;  // [players] or null: weight of "lost" self-battles
};

// Scratch that a caller keeps, so that a fit allocates nothing once it has grown.
struct NewtonWorkspace {
    std::vector<double> gradient, hessian, step, trial;
};

struct NewtonResult {
    bool converged;  // false: no finite maximum, or not reached in 100 steps
    int iterations;
    double gradient_norm;  // before the last step: largest |derivative| over the total weight
};

// Maximises the likelihood over `ratings` (natural logarithm of odds), from where they stand.
// `checkpoint` (checkpoint.hpp) may be null.
NewtonResult fit_bradley_terry(const WinTable& table, NewtonWorkspace& workspace, double* ratings,
                               void (*checkpoint)() = nullptr);

// Whether a finite maximum exists (Ford 1957): everyone can be reached from everyone by going from
// winners to losers. component[i] gets the number of i's group of mutually reachable players.
// Groups are numbered in the order of their first players. Time: O(players^2).
bool has_finite_ratings(const WinTable& table, int* component, void (*checkpoint)() = nullptr);

}  // namespace fastroute
