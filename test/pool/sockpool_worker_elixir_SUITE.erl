%%% Pools of Elixir's processes, under its supervisors, with its keyword lists: sockpool_worker_elixir.exs beside this one, in a VM of
%%% Elixir's.
-module(sockpool_worker_elixir_SUITE).

-export([all/0, suite/0, exunit/1]).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [exunit].

exunit(_Config) ->
    sockpool_test_exunit:run(filename:join([sockpool_test_util:root(), "test/pool/sockpool_worker_elixir.exs"]), [], []).
