%%% Pools of Elixir's processes, under its supervisors, with its keyword lists: sockpool_worker_elixir.exs beside this one, in a VM of
%%% Elixir's.
-module(sockpool_worker_elixir_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, exunit/1]).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [exunit].

exunit(_Config) ->
    case os:find_executable("elixir") of
        false -> {skip, "there is no elixir"};
        Elixir -> tested(Elixir)
    end.

tested(Elixir) ->
    Script = filename:join([sockpool_test_util:root(), "test/pool/sockpool_worker_elixir.exs"]),
    Ebin = filename:join(code:lib_dir(sockpool), "ebin"),
    Port = open_port({spawn_executable, Elixir},
                     [{args, ["-pa", Ebin, Script]}, {env, [{"LC_ALL", "C.UTF-8"}]}, exit_status, stderr_to_stdout, binary]),
    {Status, Said} = said(Port, <<>>),
    case re:run(Said, "^[1-9][0-9]* tests, 0 failures$", [multiline]) of
        {match, _} -> ?assertEqual(0, Status);
        nomatch -> ct:fail("~ts", [Said])
    end.

said(Port, Said) ->
    receive
        {Port, {data, Data}} -> said(Port, <<Said/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Said}
    end.
