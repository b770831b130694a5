%%% A supervisor of a project that has pools.
-module(sockpool_poolboy_sup).
-behaviour(supervisor).

-export([init/1]).

init(Specs) -> {ok, {#{strategy => one_for_one, intensity => 5, period => 10}, Specs}}.
