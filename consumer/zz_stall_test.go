package consumer
import ("testing";"time";"context";"fmt";"sort";"manna/gift")
func TestZZStall(t *testing.T){
 for _, r := range []float64{150,3000,20000}{
 ctx,c:=context.WithTimeout(context.Background(),8*time.Second)
 p,to:=NewPacer(gift.Rate(r)),newDoor()
 for p.Wait(ctx)==nil { to.call(int(r)) }
 c()
 iv:=time.Duration(1e9/r)
 bw:=time.Duration(float64(burst(gift.Rate(r)))/r*1e9)
 var gaps []time.Duration; var over time.Duration
 for i:=1;i<len(to.at);i++{ g:=to.at[i]-to.at[i-1]-iv; if g>bw {gaps=append(gaps,g); over+=g-bw} }
 sort.Slice(gaps,func(i,j int)bool{return gaps[i]>gaps[j]})
 if len(gaps)>8 {gaps=gaps[:8]}
 T:=to.at[len(to.at)-1]-to.at[0]
 fmt.Printf("r=%v used=%.2f%% stalls over burst lost=%.2f%% worst=%v\n",r,100*float64(len(to.at)-1)/(r*T.Seconds()),100*over.Seconds()/T.Seconds(),gaps)
 }}
