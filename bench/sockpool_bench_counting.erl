%% @doc What histograms cost: checkout and checkin by the library as it is, and by one that is built without them
%% (SP_NO_TIMES), each time in a VM of its own.
-module(sockpool_bench_counting).

-export([build/0, peers/0, peer/1, repeat/2, inner/1]).
-export_type([name/0]).

-type name() :: sockpool_times | sockpool_no_times.

%% @doc Builds the one without.
-spec build() -> ok.
build() ->
    Ebin = without(),
    Priv = filename:join(filename:dirname(Ebin), "priv"),
    Library = filename:join(Priv, "sockpool_nif.so"),
    ok = filelib:ensure_dir(filename:join(Ebin, "x")),
    ok = filelib:ensure_dir(Library),
    Here = filename:dirname(code:which(sockpool)),
    [{ok, _} = file:copy(File, filename:join(Ebin, filename:basename(File))) || File <- filelib:wildcard(filename:join(Here, "*"))],
    Bench = filename:dirname(filename:dirname(sockpool_bench_paths:program("x"))),
    Source = filename:join(filename:dirname(Bench), "c_src"),
    Command = ["make -s --no-print-directory -C ", Source, " CFLAGS='-O2 -g -DSP_NO_TIMES' OUT=../_build/c_src-no_times TARGET=", Library, " ",
               Library, " >&2; echo $?"],
    "0" = string:trim(os:cmd(lists:flatten(Command))),
    ok.

without() ->
    filename:join([filename:dirname(sockpool_bench_paths:program("x")), "no_times", "sockpool", "ebin"]).

-spec peers() -> [name()].
peers() -> [sockpool_times, sockpool_no_times].

%% @doc Only a label: what is measured is in another VM.
-spec peer(name()) -> #{name := name(), label := string()}.
peer(sockpool_times) -> #{name => sockpool_times, label => "sockpool checkout + checkin"};
peer(sockpool_no_times) -> #{name => sockpool_no_times, label => "the same without histograms"}.

-spec repeat(name(), {sockpool_bench_load:target(), map()}) -> sockpool_bench_load:outcome().
repeat(Name, Job) ->
    File = sockpool_bench_paths:result(lists:concat(["counting-", os:getpid(), "-", erlang:unique_integer([positive])])),
    Ebin = case Name of sockpool_times -> filename:dirname(code:which(sockpool)); sockpool_no_times -> without() end,
    Args = ["-noshell", "+P", "262144", "-pa", filename:dirname(code:which(?MODULE)), "-pa", filename:absname(Ebin),
            "-run", ?MODULE_STRING, "inner", base64:encode_to_string(term_to_binary(Job)), File],
    Port = open_port({spawn_executable, filename:join([code:root_dir(), "bin", "erl"])},
                     [{args, Args}, exit_status, stderr_to_stdout, in]),
    Status = ended(Port),
    Outcome = case file:read_file(File) of
                  {ok, Bytes} when Status =:= 0 -> binary_to_term(Bytes);
                  _ -> {failed, {inner_vm, Status}}
              end,
    _ = file:delete(File),
    Outcome.

ended(Port) ->
    receive
        {Port, {data, _}} -> ended(Port);
        {Port, {exit_status, Status}} -> Status
    end.

%% @doc The entry of that VM.
-spec inner([string()]) -> no_return().
inner([Job, File]) ->
    {Target, Options} = binary_to_term(base64:decode(Job)),
    Outcome = sockpool_bench_load:repeat(sockpool_checkout, Target, Options),
    ok = file:write_file(File, term_to_binary(Outcome)),
    halt(0).
