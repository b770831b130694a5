%%% @private
%%% The option `packet': how messages are told apart in a stream of bytes.
-module(sockpool_framing).

-export([check/1, parts/1]).
-export_type([framing/0, cut/0]).

-type framing() :: raw | 1 | 2 | 4 | line | resp | {fixed, pos_integer()} | {delimiter, binary()}
                 | {length, #{offset := 0..255, bytes := 1..8, endian := big | little, adjust := integer(),
                              header := keep | strip}} | sockpool_callback:callback().
%% As the library takes it.

-type cut() :: {done, Bytes :: pos_integer()} | {more, AtLeast :: pos_integer() | unknown} | {error, Reason :: term()}.
%% What a function says of the bytes that are there.

-define(MAX_BYTES, 2147483647).
-define(DELIMITER_BYTES, 32).

%% @doc What a user gave, made complete.
-spec check(term()) -> {ok, framing()} | error.
check(0) -> {ok, raw};
check(Word) when Word =:= raw; Word =:= 1; Word =:= 2; Word =:= 4; Word =:= line; Word =:= resp -> {ok, Word};
check({fixed, Bytes} = Fixed) when is_integer(Bytes), Bytes >= 1, Bytes =< ?MAX_BYTES -> {ok, Fixed};
check({delimiter, <<"\n">>}) -> {ok, line};
check({delimiter, Bytes} = Delimiter)
  when is_binary(Bytes), byte_size(Bytes) >= 1, byte_size(Bytes) =< ?DELIMITER_BYTES ->
    {ok, Delimiter};
check({length, Opts}) ->
    Defaults = #{offset => 0, bytes => 4, endian => big, adjust => 0, header => keep},
    case sockpool_given:map(Opts, maps:keys(Defaults)) of
        {ok, Given} -> with_length(maps:merge(Defaults, Given), maps:size(Defaults));
        error -> error
    end;
check(Other) ->
    sockpool_callback:check(Other, 1).

%% @doc For the library: the framing, and the function where it is one.
-spec parts(framing()) -> {term(), sockpool_callback:callback() | undefined}.
parts(Cut) when is_function(Cut); tuple_size(Cut) =:= 3 -> {'fun', Cut};
parts(Framing) -> {Framing, undefined}.

%% A header that is put before what is sent has nothing before its length.
with_length(#{header := strip, offset := Offset}, _Size) when Offset =/= 0 ->
    error;
with_length(#{offset := Offset, bytes := Bytes, endian := Endian, adjust := Adjust, header := Header} = Opts, Size)
  when map_size(Opts) =:= Size,
       is_integer(Offset), Offset >= 0, Offset =< 255, is_integer(Bytes), Bytes >= 1, Bytes =< 8,
       is_integer(Adjust), Adjust >= -?MAX_BYTES, Adjust =< ?MAX_BYTES,
       Endian =:= big orelse Endian =:= little, Header =:= keep orelse Header =:= strip ->
    {ok, shortest(Opts)};
with_length(_Opts, _Size) ->
    error.

%% As info/1 says it.
shortest(#{offset := 0, bytes := Bytes, endian := big, adjust := 0, header := strip})
  when Bytes =:= 1; Bytes =:= 2; Bytes =:= 4 ->
    Bytes;
shortest(Opts) ->
    {length, Opts}.
