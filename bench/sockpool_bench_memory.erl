%% @doc The memory of this VM, in bytes.
-module(sockpool_bench_memory).

-export([vm_bytes/0, resident_bytes/0]).

%% @doc What the VM's allocators gave out: what NIFs allocate through them, binaries and living
%% processes included. erlang:memory(processes) also counts what processes that ended a moment ago
%% have not given back.
-spec vm_bytes() -> non_neg_integer().
vm_bytes() ->
    Living = [Bytes || Pid <- erlang:processes(), Pid =/= self(),
                       {memory, Bytes} <- [erlang:process_info(Pid, memory)]],
    erlang:memory(system) + lists:sum(Living).

%% @doc What the kernel counts, files left out: it also sees what a library allocates by itself.
-spec resident_bytes() -> non_neg_integer() | unknown.
resident_bytes() ->
    case file:read_file("/proc/self/status") of
        {ok, Status} ->
            {match, [KiB]} = re:run(Status, "RssAnon:\\s*([0-9]+)", [{capture, [1], list}]),
            list_to_integer(KiB) * 1024;
        {error, _} ->
            unknown
    end.
