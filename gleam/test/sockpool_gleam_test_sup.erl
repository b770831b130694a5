%%% A supervisor of one child, as an application has it.
-module(sockpool_gleam_test_sup).
-behaviour(supervisor).

-export([init/1]).

-spec init(supervisor:child_spec()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(ChildSpec) ->
    {ok, {#{strategy => one_for_one, intensity => 5, period => 10}, [ChildSpec]}}.
