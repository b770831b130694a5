%%% Scripts of ExUnit, in a VM of Elixir's that has sockpool.
-module(sockpool_test_exunit).

-include_lib("stdlib/include/assert.hrl").

-export([run/3]).

%% It must succeed, and have tests.
-spec run(file:filename(), [string()], [{string(), string()}]) -> ok | {skip, string()}.
run(Script, Args, Env) ->
    case os:find_executable("elixir") of
        false ->
            {skip, "there is no elixir"};
        Elixir ->
            Ebin = filename:join(code:lib_dir(sockpool), "ebin"),
            Port = open_port({spawn_executable, Elixir},
                             [{args, ["-pa", Ebin, Script | Args]}, {env, [{"LC_ALL", "C.UTF-8"} | Env]}, exit_status,
                              stderr_to_stdout, binary]),
            {Status, Said} = said(Port, <<>>),
            ?assertMatch({0, {match, _}}, {Status, re:run(Said, "^[1-9][0-9]* tests, 0 failures$", [multiline])}, Said),
            ok
    end.

said(Port, Said) ->
    receive
        {Port, {data, Data}} -> said(Port, <<Said/binary, Data/binary>>);
        {Port, {exit_status, Status}} -> {Status, Said}
    end.
