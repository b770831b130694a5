%% @doc Where the programs are and where results go, seen from bench/ebin.
-module(sockpool_bench_paths).

-export([program/1, result/1]).

-spec program(Name :: string()) -> file:filename().
program(Name) ->
    filename:join([bench_dir(), "bin", Name]).

%% @doc A file under bench/results; the directory is made if need be.
-spec result(Name :: string()) -> file:filename().
result(Name) ->
    File = filename:join([bench_dir(), "results", Name]),
    ok = filelib:ensure_dir(File),
    File.

bench_dir() ->
    filename:dirname(filename:dirname(filename:absname(code:which(?MODULE)))).
