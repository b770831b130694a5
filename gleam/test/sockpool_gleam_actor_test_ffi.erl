%%% Subjects and actors, as those of gleam_erlang and gleam_otp are at run time.
-module(sockpool_gleam_actor_test_ffi).

-export([send/2, call/3, start/2, init/3, kill_keeper/0, rows/0]).

send({subject, Owner, Tag}, Message) ->
    Owner ! {Tag, Message},
    nil.

call({subject, Owner, _} = Subject, Timeout, MakeRequest) ->
    Monitor = monitor(process, Owner),
    Tag = make_ref(),
    nil = send(Subject, MakeRequest({subject, self(), Tag})),
    receive
        {Tag, Reply} -> true = demonitor(Monitor, [flush]), Reply;
        {'DOWN', Monitor, process, _, Reason} -> error({callee_exited, Reason})
    after Timeout ->
        error(timeout)
    end.

start(State, Handler) -> proc_lib:start_link(?MODULE, init, [self(), State, Handler]).

init(Parent, State, Handler) ->
    Tag = make_ref(),
    ok = proc_lib:init_ack(Parent, {ok, {started, self(), {subject, self(), Tag}}}),
    loop(Tag, State, Handler).

loop(Tag, State, Handler) ->
    receive
        {Tag, Message} ->
            case Handler(State, Message) of
                {continue, New} -> loop(Tag, New, Handler);
                stop -> ok
            end
    end.

%% Who has the data of workers.
kill_keeper() ->
    Monitor = monitor(process, sockpool_gleam_worker),
    true = exit(whereis(sockpool_gleam_worker), kill),
    receive {'DOWN', Monitor, process, _, killed} -> nil end.

rows() -> ets:info(sockpool_gleam_worker, size).
