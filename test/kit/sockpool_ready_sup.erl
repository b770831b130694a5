%%% A supervisor of a user's, for pools in its tree.
-module(sockpool_ready_sup).
-behaviour(supervisor).
-export([init/1]).

init([]) -> {ok, {#{strategy => one_for_one}, []}}.
